"""Workers that are warm before a client asks: loaded where nothing is missing, else started and anybody's."""

import asyncio
import threading

import pytest
from support.fake_process import FakeProcess
from support.pool_bench import Bench, MakeBench
from support.waiting import WAIT_S, bounded, until

from waifu_llm import log
from waifu_llm.catalog import KeyNeed
from waifu_llm.config import LimitSettings
from waifu_llm.errors import Busy, ModuleError, StartFailed
from waifu_llm.private_files import PrivateFileError
from waifu_llm.supervision.jobs import LoadFields
from waifu_llm.supervision.prewarming import Prewarming
from waifu_worker import wire

WARM = ("fake",)


class Remembered:
    """Satisfies `Memory`."""

    def __init__(self, name: str | None = None, error: ModuleError | None = None) -> None:
        self.name = name
        self.error = error
        self.written: list[str] = []

    def read(self) -> str | None:
        if self.error is not None:
            raise self.error
        return self.name

    def write(self, name: str) -> None:
        self.written.append(name)
        if self.error is not None:
            raise self.error


async def warm(bench: Bench) -> FakeProcess:
    """Prewarm it; the process, which has the load."""
    bench.pool.prewarm()
    process = await bench.spawn.loaded()
    await at_rest(bench)
    return process


async def at_rest(bench: Bench) -> None:
    await until(lambda: not bench.pool._prewarming._tasks, "nothing is prewarmed any more")


async def load(bench: Bench, connection: object = "c", provider: str = "fake", **fields: object) -> None:
    api_key = fields.pop("api_key", None)
    assert api_key is None or isinstance(api_key, str)
    async with bounded():
        await bench.pool.load(LoadFields(provider, api_key, None, fields), connection)


async def answered_load(bench: Bench, process: FakeProcess, **fields: str) -> wire.Load:
    """A load that this process gets; its message."""
    task = asyncio.ensure_future(load(bench, "c", "fake", **fields))
    message = await process.next_sent(wire.Load)
    process.say(wire.Done(id=message.id, models=()))
    await task
    return message


async def test_nothing_is_prewarmed_unless_somebody_asks_for_it(make_bench: MakeBench) -> None:
    memory = Remembered("fake")
    bench = make_bench(last_used=memory)
    bench.pool.prewarm()
    task = asyncio.ensure_future(load(bench))
    await bench.spawn.loaded()
    await task
    await at_rest(bench)
    assert (bench.spawn.count, memory.written) == (1, [])


async def test_a_load_of_what_was_prewarmed_starts_and_sends_nothing(make_bench: MakeBench) -> None:
    bench = make_bench(prewarm=WARM, own_key="own-key")
    process = await warm(bench)
    await load(bench)
    assert bench.spawn.count == 1
    assert process.nothing_sent()


async def test_what_was_prewarmed_is_no_clients_load(make_bench: MakeBench) -> None:
    bench = make_bench(prewarm=WARM)
    await warm(bench)
    assert bench.pool.last_loaded is None


async def test_where_the_key_is_missing_the_worker_waits_for_a_load_that_brings_one(make_bench: MakeBench) -> None:
    bench = make_bench(prewarm=WARM, key=KeyNeed.REQUIRED)
    bench.pool.prewarm()
    process = await bench.spawn.next_ready()
    await at_rest(bench)
    assert process.nothing_sent()
    (worker,) = bench.pool.workers()
    assert (worker.provider, worker.state) == ("fake", "ready")
    message = await answered_load(bench, process, api_key="canary-key")
    assert message.api_key == "canary-key"
    assert bench.spawn.count == 1


async def test_a_load_may_come_while_the_worker_is_still_being_started(make_bench: MakeBench) -> None:
    bench = make_bench(prewarm=WARM, key=KeyNeed.REQUIRED)
    bench.pool.prewarm()
    process = await bench.spawn.next_process()
    task = asyncio.ensure_future(load(bench, api_key="canary-key"))
    await asyncio.sleep(0)
    process.greet()
    message = await process.next_sent(wire.Load)
    process.say(wire.Done(id=message.id, models=()))
    await task
    assert bench.spawn.count == 1


async def test_where_a_client_was_quicker_no_worker_is_started(make_bench: MakeBench) -> None:
    bench = make_bench(prewarm=WARM, key=KeyNeed.REQUIRED)
    task = asyncio.ensure_future(load(bench, api_key="canary-key"))
    await bench.spawn.loaded()
    await task
    bench.pool.prewarm()
    await at_rest(bench)
    assert bench.spawn.count == 1


async def test_the_worker_belongs_to_the_first_load_alone(make_bench: MakeBench) -> None:
    bench = make_bench(prewarm=WARM, key=KeyNeed.REQUIRED)
    bench.pool.prewarm()
    process = await bench.spawn.next_ready()
    await at_rest(bench)
    await answered_load(bench, process, api_key="canary-key")
    task = asyncio.ensure_future(load(bench, "other", api_key="another-key"))
    other = await bench.spawn.loaded()
    await task
    assert other is not process
    assert process.nothing_sent()


async def test_its_log_takes_out_even_a_short_key_that_it_got_later(make_bench: MakeBench) -> None:
    bench = make_bench(prewarm=WARM, key=KeyNeed.REQUIRED)
    bench.pool.prewarm()
    process = await bench.spawn.next_ready()
    await at_rest(bench)
    await answered_load(bench, process, api_key="shortkey")
    process.complain("cannot log in with shortkey\n")
    await asyncio.to_thread(log.flush, WAIT_S)
    text = (bench.folder / "logs" / "fake.log").read_text("utf-8")
    assert "cannot log in with [redacted]" in text


async def test_a_worker_whose_load_failed_is_there_for_a_load_with_other_fields(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench(prewarm=WARM)
    bench.pool.prewarm()
    process = await bench.spawn.next_ready()
    message = await process.next_sent(wire.Load)
    process.say(wire.Failed(id=message.id, error=wire.Code.UNEXPECTED, message="nothing answers at this address"))
    await at_rest(bench)
    assert "fake is not prewarmed: nothing answers at this address" in caplog.text
    message = await answered_load(bench, process, base_url="http://127.0.0.2", api_key="canary-key")
    assert message.options["base_url"] == "http://127.0.0.2"
    assert bench.spawn.count == 1


@pytest.mark.virtual_time
async def test_what_was_prewarmed_does_not_end_since_nobody_uses_it(make_bench: MakeBench) -> None:
    bench = make_bench(prewarm=WARM, idle_s=10.0)
    process = await warm(bench)
    for _ in range(3):
        await asyncio.sleep(20)
        process.say(wire.Beat())
        await load(bench)
        bench.pool.release("c")
    assert (bench.spawn.count, process.stops) == (1, 0)


@pytest.mark.parametrize("need", [KeyNeed.OPTIONAL, KeyNeed.REQUIRED])
async def test_it_makes_room_for_a_load_where_there_may_be_no_more_workers(
    make_bench: MakeBench, need: KeyNeed
) -> None:
    bench = make_bench(limits=LimitSettings(workers=1), prewarm=WARM, key=need, providers=("fake", "other"))
    bench.pool.prewarm()
    process = await bench.spawn.next_ready()
    if need is KeyNeed.OPTIONAL:
        message = await process.next_sent(wire.Load)
        process.say(wire.Done(id=message.id, models=()))
    await at_rest(bench)
    task = asyncio.ensure_future(load(bench, provider="other", api_key="canary-key"))
    other = await bench.spawn.next_ready("other")
    message = await other.next_sent(wire.Load)
    other.say(wire.Done(id=message.id, models=()))
    await task
    assert process.stops == 1


async def test_prewarming_ends_no_worker_of_others(make_bench: MakeBench, caplog: pytest.LogCaptureFixture) -> None:
    bench = make_bench(limits=LimitSettings(workers=1), prewarm=("fake", "other"), providers=("fake", "other"))
    process = await warm(bench)
    assert "other is not prewarmed: as many workers run as there may be; raise limits.workers" in caplog.text
    assert (bench.spawn.count, process.stops) == (1, 0)


async def test_a_spare_worker_that_may_start_no_more_stays_a_place_for_its_own_load(make_bench: MakeBench) -> None:
    bench = make_bench(limits=LimitSettings(workers=1), prewarm=WARM, key=KeyNeed.REQUIRED)
    bench.pool.prewarm()
    process = await bench.spawn.next_ready()
    await at_rest(bench)
    await answered_load(bench, process, api_key="canary-key")
    with pytest.raises(Busy):
        await load(bench, "other", api_key="another-key")


@pytest.mark.parametrize("need", [KeyNeed.OPTIONAL, KeyNeed.REQUIRED])
async def test_unload_ends_it_until_somebody_loads_it(make_bench: MakeBench, need: KeyNeed) -> None:
    bench = make_bench(prewarm=WARM, key=need)
    bench.pool.prewarm()
    process = await bench.spawn.next_ready()
    if need is KeyNeed.OPTIONAL:
        message = await process.next_sent(wire.Load)
        process.say(wire.Done(id=message.id, models=()))
    await at_rest(bench)
    async with bounded():
        await bench.pool.unload("fake")
    assert process.ended
    task = asyncio.ensure_future(load(bench, api_key="canary-key"))
    assert await bench.spawn.loaded() is not process
    await task


async def test_the_end_of_the_module_ends_what_is_being_prewarmed(make_bench: MakeBench) -> None:
    bench = make_bench(prewarm=("fake", "other"), key=KeyNeed.REQUIRED, providers=("fake", "other"))
    bench.pool.prewarm()
    process = await bench.spawn.next_process()
    async with bounded():
        await bench.pool.close()
    assert process.ended
    assert bench.spawn.count == 1


async def test_a_provider_that_there_is_not_keeps_no_other_from_being_prewarmed(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench(prewarm=("fke", "fake"))
    await warm(bench)
    assert "fke is not prewarmed: there is no provider 'fke'; there are: fake" in caplog.text


@pytest.mark.parametrize("need", [KeyNeed.OPTIONAL, KeyNeed.REQUIRED])
async def test_a_worker_that_cannot_start_is_a_line_of_the_log(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture, need: KeyNeed
) -> None:
    bench = make_bench(prewarm=WARM, key=need)
    bench.environments.error = StartFailed("there is no disk")
    bench.pool.prewarm()
    await at_rest(bench)
    assert "fake is not prewarmed: there is no disk" in caplog.text
    assert bench.pool.workers() == []


async def test_an_error_of_our_own_is_one_too(make_bench: MakeBench, caplog: pytest.LogCaptureFixture) -> None:
    def find_key() -> str:
        raise ZeroDivisionError

    bench = make_bench(prewarm=WARM, find_key=find_key)
    bench.pool.prewarm()
    await at_rest(bench)
    assert "fake is not prewarmed, for an error inside the module" in caplog.text


async def test_the_provider_that_was_loaded_last_is_prewarmed_and_remembered(make_bench: MakeBench) -> None:
    memory = Remembered("fake")
    bench = make_bench(prewarm_last=True, last_used=memory)
    await warm(bench)
    assert memory.written == []
    await load(bench)
    await load(bench, "other")
    await at_rest(bench)
    assert memory.written == ["fake"]
    assert bench.spawn.count == 1


async def test_one_that_is_named_and_was_loaded_last_is_prewarmed_once(make_bench: MakeBench) -> None:
    bench = make_bench(prewarm=WARM, prewarm_last=True, last_used=Remembered("fake"))
    await warm(bench)
    assert bench.spawn.count == 1


async def test_before_anything_was_loaded_there_is_no_last_one(make_bench: MakeBench) -> None:
    bench = make_bench(prewarm_last=True, last_used=Remembered())
    bench.pool.prewarm()
    await at_rest(bench)
    assert bench.spawn.count == 0


async def test_a_memory_that_fails_is_a_line_of_the_log(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    memory = Remembered(error=PrivateFileError("it is a link"))
    bench = make_bench(prewarm=WARM, prewarm_last=True, last_used=memory)
    await warm(bench)
    await load(bench)
    await at_rest(bench)
    assert "which provider was loaded last is not known: it is a link" in caplog.text
    assert "which provider was loaded last is not remembered: it is a link" in caplog.text


async def test_one_whose_load_fails_later_ends_with_the_client_that_saw_it(make_bench: MakeBench) -> None:
    """Warm with nothing loaded in it, it would run for ever."""
    bench = make_bench(prewarm=WARM, idle_s=3600.0)
    (await warm(bench)).exit(1)
    asking = asyncio.ensure_future(load(bench))
    process = await bench.spawn.next_ready()
    message = await process.next_sent(wire.Load)
    process.say(wire.Failed(id=message.id, error=wire.Code.AUTHORIZATION, message="no longer"))
    with pytest.raises(ModuleError):
        await asking
    bench.pool.release("c")
    await until(lambda: process.ended, "it is stopped")


async def test_a_spare_worker_that_makes_room_takes_its_place_until_it_has_stopped(make_bench: MakeBench) -> None:
    bench = make_bench(limits=LimitSettings(workers=1), prewarm=WARM, key=KeyNeed.REQUIRED, providers=("fake", "other"))
    bench.pool.prewarm()
    spare = await bench.spawn.next_ready()
    await at_rest(bench)
    spare.stoppable.clear()
    asking = asyncio.ensure_future(load(bench, provider="other", api_key="a-key-of-theirs"))
    await until(lambda: spare.stops == 1, "it is told to stop")
    await asyncio.sleep(0)
    assert (bench.spawn.count, [row.provider for row in bench.pool.workers()]) == (1, ["fake"])
    spare.stoppable.set()
    process = await bench.spawn.next_ready("other")
    message = await process.next_sent(wire.Load)
    process.say(wire.Done(id=message.id, models=()))
    await asking
    assert [row.provider for row in bench.pool.workers()] == ["other"]


async def test_of_two_loads_the_later_one_is_remembered_however_slow_the_disk() -> None:
    first_may_end = threading.Event()

    class SlowAtFirst(Remembered):
        def write(self, name: str) -> None:
            if not self.written:
                self.written.append(f"begun {name}")
                assert first_may_end.wait(WAIT_S)
            super().write(name)

    memory = SlowAtFirst()
    prewarming = Prewarming((), memory, warm=lambda _: asyncio.sleep(0))
    prewarming.loaded("one")
    await until(lambda: memory.written == ["begun one"], "the first is being written")
    prewarming.loaded("two")
    prewarming.loaded("three")
    first_may_end.set()
    await until(lambda: not prewarming._tasks, "all is written")
    assert memory.written == ["begun one", "one", "three"]
