"""Loads: shared by key, started once, failing once, forgotten when nobody holds them."""

import asyncio
import threading

import pytest
from support.fake_process import FakeProcess
from support.pool_bench import Bench, MakeBench, RecordingSink, job
from support.waiting import WAIT_S, bounded, until

from waifu_llm.errors import (
    Closing,
    InstallFailed,
    ModuleError,
    ProviderDown,
    StartFailed,
    UnknownProvider,
    Unloaded,
    WorkerCrashed,
    WorkerFailure,
)
from waifu_llm.supervision.jobs import Loaded, LoadFields, LoadProgress
from waifu_worker import wire


async def load(bench: Bench, connection: object = "c", **fields: object) -> FakeProcess:
    """Load with a worker that says yes at once; the process."""
    task = asyncio.ensure_future(bench.pool.load(bench.fields(**fields), connection))
    process = await bench.spawn.loaded()
    async with bounded():
        await task
    return process


async def test_a_load_builds_starts_and_asks_the_provider(bench: Bench) -> None:
    progress: list[LoadProgress] = []
    bench.environments.ready.clear()
    task = asyncio.ensure_future(
        bench.pool.load(bench.fields(api_key="canary-key", preload_model_id="big"), "c", progress.append)
    )
    await bench.environments.asked.wait()
    bench.environments.ready.set()
    process = await bench.spawn.next_ready()
    message = await process.next_sent(wire.Load)
    assert (message.api_key, message.preload_model_id) == ("canary-key", "big")
    assert message.options == {"base_url": "http://127.0.0.1", "num_ctx": 1}
    process.say(wire.Progress(id=message.id, stage="model", detail="loading", fraction=0.25))
    process.say(wire.Done(id=message.id, models=(wire.ModelInfo(id="m"),), warning="careful"))
    async with bounded():
        loaded = await task
    assert (loaded.provider, loaded.warning) == ("fake", "careful")
    assert bench.pool.last_loaded is loaded
    assert [step.stage for step in progress] == ["environment", "worker", "provider", "model"]
    assert progress[0].fraction == 0.5
    assert "canary-key" not in str(process.argv) + str(process.env)
    assert "FAKE_API_KEY" not in process.env


async def test_equal_loads_share_one_worker_and_cost_no_message(bench: Bench) -> None:
    process = await load(bench, "a")
    async with bounded():
        await asyncio.gather(*(bench.pool.load(bench.fields(), f"client {n}") for n in range(100)))
    assert bench.spawn.count == 1
    assert process.nothing_sent()


async def test_a_key_at_hand_is_looked_for_nowhere_else(make_bench: MakeBench) -> None:
    def find_key() -> str:
        raise AssertionError

    bench = make_bench(key_at_hand="canary-key", find_key=find_key)
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "c"))
    process = await bench.spawn.next_ready()
    message = await process.next_sent(wire.Load)
    process.say(wire.Done(id=message.id, models=()))
    await task
    assert message.api_key == "canary-key"


async def test_loads_at_the_same_moment_start_one_worker(bench: Bench) -> None:
    tasks = [asyncio.ensure_future(bench.pool.load(bench.fields(), n)) for n in range(10)]
    process = await bench.spawn.loaded()
    async with bounded():
        loaded = await asyncio.gather(*tasks)
    assert len(set(map(id, loaded))) == 1
    assert (bench.spawn.count, bench.environments.count) == (1, 1)
    assert process.nothing_sent()


async def test_another_key_is_another_worker_and_another_option_another_context(bench: Bench) -> None:
    first = await load(bench, "a", api_key="one")
    await load(bench, "b", api_key="two")
    assert bench.spawn.count == 2
    task = asyncio.ensure_future(bench.pool.load(bench.fields(api_key="one", num_ctx=7), "c"))
    message = await first.next_sent(wire.Load)
    assert message.options["num_ctx"] == 7
    first.say(wire.Done(id=message.id, models=()))
    async with bounded():
        await task
    assert bench.spawn.count == 2


async def test_keys_are_known_to_the_redactor_before_anything_is_said(make_bench: MakeBench) -> None:
    bench = make_bench(own_key="canary-of-the-server")
    await load(bench, "a")
    await load(bench, "b", api_key="canary-of-a-client")
    assert bench.redactor.scrub("canary-of-the-server canary-of-a-client") == "[redacted] [redacted]"


async def test_an_unknown_provider_is_refused_by_name(bench: Bench) -> None:
    with pytest.raises(UnknownProvider, match="there are: fake"):
        await bench.pool.load(LoadFields("nope", None, None, {}), "c")


async def test_a_failed_build_fails_the_load_and_the_next_load_tries_again(bench: Bench) -> None:
    bench.environments.error = InstallFailed("disk full")
    for _ in range(2):
        with pytest.raises(InstallFailed, match="disk full"):
            await bench.pool.load(bench.fields(), "c")
    assert bench.environments.count == 2
    bench.environments.error = None
    await load(bench)


@pytest.mark.parametrize(
    ("ready", "said"),
    [
        (wire.Ready(magic="other", wire=wire.WIRE_VERSION, name="fake"), "greeted as 'other'"),
        (wire.Ready(magic=wire.MAGIC, wire=99, name="fake"), "wire version 99"),
        (wire.Ready(magic=wire.MAGIC, wire=wire.WIRE_VERSION, name="echo"), "greeted as 'waifu-llm' 'echo'"),
    ],
)
async def test_a_worker_with_a_wrong_greeting_is_refused_and_killed(bench: Bench, ready: wire.Ready, said: str) -> None:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "c"))
    process = await bench.spawn.next_process()
    await asyncio.sleep(0)
    process.say(ready)
    with pytest.raises(StartFailed, match=said):
        await task
    assert process.kills == 1


async def test_a_worker_that_ends_before_ready_fails_the_load_with_its_last_words(bench: Bench) -> None:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "c"))
    process = await bench.spawn.next_process()
    process.complain("Traceback\nImportError: no module named x\n\n")
    process.exit(1)
    with pytest.raises(StartFailed, match=r"exit code 1.*ImportError: no module named x.*fake\.log"):
        await task


async def test_a_worker_that_dies_right_after_its_greeting_fails_the_load(bench: Bench) -> None:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "c"))
    process = await bench.spawn.next_process()
    await asyncio.sleep(0)
    process.greet()
    process.exit(-11)
    with pytest.raises(ModuleError):
        await task


async def test_a_worker_that_never_greets_is_killed_at_its_time(make_bench: MakeBench) -> None:
    bench = make_bench(start_s=0.01)
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "c"))
    process = await bench.spawn.next_process()
    with pytest.raises(StartFailed, match="not ready within"):
        await task
    assert process.ended


async def test_a_process_that_cannot_be_started_fails_the_load(bench: Bench) -> None:
    bench.spawn.error = OSError(24, "Too many open files")
    with pytest.raises(StartFailed, match="Too many open files"):
        await bench.pool.load(bench.fields(), "c")


async def test_the_providers_refusal_reaches_the_client_and_the_worker_goes(bench: Bench) -> None:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(api_key="bad"), "c"))
    process = await bench.spawn.next_ready()
    message = await process.next_sent(wire.Load)
    process.say(wire.Failed(id=message.id, error=wire.Code.AUTHORIZATION, message="wrong key", reason="quota"))
    with pytest.raises(WorkerFailure, match="wrong key") as caught:
        await task
    failure = caught.value.failure()
    assert (failure.code, failure.reason) == ("AUTHORIZATION", "quota")
    await process.end()
    assert bench.pool.last_loaded is None
    await until(lambda: bench.pool.workers() == [], "it is forgotten")


async def test_a_failed_load_leaves_the_worker_of_others_alone(bench: Bench) -> None:
    process = await load(bench, "a")
    task = asyncio.ensure_future(bench.pool.load(bench.fields(num_ctx=9), "b"))
    message = await process.next_sent(wire.Load)
    process.say(wire.Failed(id=message.id, error=wire.Code.INVALID_MODEL, message="no such model"))
    with pytest.raises(WorkerFailure):
        await task
    forgotten = await process.next_sent(wire.Unload)
    assert forgotten.ctx == message.ctx
    assert not process.ended


async def test_a_credential_check_without_an_answer_is_the_providers_fault(make_bench: MakeBench) -> None:
    bench = make_bench(key_check_s=0.01)
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "c"))
    process = await bench.spawn.next_ready()
    message = await process.next_sent(wire.Load)
    with pytest.raises(ProviderDown, match="did not answer"):
        await task
    assert (await process.next_sent(wire.Cancel)).id == message.id


async def test_a_preload_may_take_longer_than_the_credential_check(make_bench: MakeBench) -> None:
    bench = make_bench(key_check_s=0.05)
    began = asyncio.Event()
    task = asyncio.ensure_future(
        bench.pool.load(bench.fields(), "c", lambda p: began.set() if p.stage == "model" else None)
    )
    process = await bench.spawn.next_ready()
    message = await process.next_sent(wire.Load)
    process.say(wire.Progress(id=message.id, stage="model"))
    async with bounded():
        await began.wait()
        # Longer than the limit, by the loop's own clock: had it not been lifted, it would have fired by now.
        passed = asyncio.Event()
        asyncio.get_running_loop().call_later(0.2, passed.set)
        await passed.wait()
    assert not task.done()
    process.say(wire.Done(id=message.id, models=()))
    async with bounded():
        await task


async def test_cancelling_one_of_two_waiters_leaves_the_load_alone(bench: Bench) -> None:
    # With a key of their own both join at once; without one, a thread looks for the server's first.
    first = asyncio.ensure_future(bench.pool.load(bench.fields(api_key="k"), "a"))
    second = asyncio.ensure_future(bench.pool.load(bench.fields(api_key="k"), "b"))
    process = await bench.spawn.next_ready()
    message = await process.next_sent(wire.Load)
    first.cancel()
    await asyncio.wait({first})
    process.say(wire.Done(id=message.id, models=()))
    async with bounded():
        await second
    assert process.nothing_sent()


async def test_cancelling_the_last_waiter_cancels_the_load_and_ends_the_worker(bench: Bench) -> None:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "a"))
    process = await bench.spawn.next_ready()
    message = await process.next_sent(wire.Load)
    task.cancel()
    await asyncio.wait({task})
    assert (await process.next_sent(wire.Cancel)).id == message.id
    await process.end()


async def test_a_load_stops_with_its_only_waiter_though_others_still_hear_of_the_one_before(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    tasks = [asyncio.ensure_future(bench.pool.load(bench.fields(api_key="k"), "a"))]
    process = await bench.spawn.next_ready()
    message = await process.next_sent(wire.Load)

    def load_and_leave() -> None:
        tasks.append(asyncio.ensure_future(bench.pool.load(bench.fields(api_key="k"), "b")))
        loop.call_soon(tasks[1].cancel)

    # The second load begins, and its client leaves, between the end of the first and the first client's hearing of it.
    loop.call_soon(load_and_leave)
    process.say(wire.Failed(id=message.id, error=wire.Code.UNEXPECTED, message="no"))
    async with bounded():
        await asyncio.wait(tasks)
    assert [type(task.exception()) if not task.cancelled() else None for task in tasks] == [WorkerFailure, None]
    again = await process.next_sent(wire.Load)
    assert (await process.next_sent(wire.Cancel)).id == again.id


async def test_a_crash_during_the_load_fails_it_and_the_next_load_starts_again(bench: Bench) -> None:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "a"))
    process = await bench.spawn.next_ready()
    await process.next_sent(wire.Load)
    process.exit(-9)
    with pytest.raises(WorkerCrashed, match="signal 9, SIGKILL"):
        await task
    await load(bench, "a")


async def test_the_worker_stops_some_time_after_its_last_holder_left(make_bench: MakeBench) -> None:
    bench = make_bench(idle_s=0.01)
    process = await load(bench, "a")
    async with bounded():
        await bench.pool.load(bench.fields(), "b")
    bench.pool.release("a")
    assert not process.ended
    bench.pool.release("b")
    await process.end()
    assert process.stops == 1


async def test_a_new_holder_in_time_keeps_the_worker(make_bench: MakeBench) -> None:
    bench = make_bench(idle_s=3600.0)
    process = await load(bench, "a")
    bench.pool.release("a")
    async with bounded():
        await bench.pool.load(bench.fields(), "b")
    assert not process.ended
    assert bench.spawn.count == 1


async def two_loads(bench: Bench) -> tuple[FakeProcess, wire.Load, Loaded]:
    """One worker with a load of a and another one of b; the process, and the second load on the wire and as it is."""
    process = await load(bench, "a")
    task = asyncio.ensure_future(bench.pool.load(bench.fields(num_ctx=9), "b"))
    message = await process.next_sent(wire.Load)
    process.say(wire.Done(id=message.id, models=()))
    async with bounded():
        return process, message, await task


async def test_a_context_is_forgotten_when_its_last_holder_left_while_others_stay(make_bench: MakeBench) -> None:
    bench = make_bench(idle_s=0.01)
    process, message, _ = await two_loads(bench)
    await asyncio.wait_for(bench.pool.load(bench.fields(), "a"), 5)
    bench.pool.release("b")
    assert (await process.next_sent(wire.Unload)).ctx == message.ctx
    assert not process.ended


async def test_a_forgotten_context_that_was_loaded_last_is_loaded_again_for_whoever_shares_it(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(idle_s=0.01)
    process, message, last = await two_loads(bench)
    bench.pool.release("b")
    await process.next_sent(wire.Unload)
    sink = RecordingSink()
    bench.pool.generate(last, job(), "someone", sink)
    again = await process.next_sent(wire.Load)
    assert again.ctx == message.ctx
    process.say(wire.Done(id=again.id, models=()))
    process.say(wire.Done(id=(await process.next_sent(wire.Generate)).id))
    assert (await sink.ending()).failure is None


async def test_the_worker_stops_with_its_last_holder_though_the_last_load_was_forgotten_before(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(idle_s=0.01)
    process, _, _ = await two_loads(bench)
    bench.pool.release("b")
    await process.next_sent(wire.Unload)
    bench.pool.release("a")
    await process.end()


async def test_an_error_of_ours_while_a_worker_starts_fails_the_load(bench: Bench) -> None:
    bench.environments.error = ValueError("a bug")
    with pytest.raises(StartFailed, match="an error inside the module"):
        async with bounded():
            await bench.pool.load(bench.fields(), "c")
    bench.environments.error = None
    await load(bench)


async def test_the_newer_load_of_a_connection_lets_go_of_the_older_one(make_bench: MakeBench) -> None:
    bench = make_bench(idle_s=0.01)
    old = await load(bench, "a", api_key="one")
    await load(bench, "a", api_key="two")
    await old.end()


async def test_of_two_loads_at_once_the_connection_holds_the_one_asked_for_last(make_bench: MakeBench) -> None:
    bench = make_bench(idle_s=0.01)
    first = asyncio.ensure_future(bench.pool.load(bench.fields(api_key="one"), "a"))
    older = await bench.spawn.next_ready()
    check = await older.next_sent(wire.Load)
    newer = await load(bench, "a", api_key="two")
    older.say(wire.Done(id=check.id, models=()))
    async with bounded():
        await first
    # The one that succeeded last may be anybody's; another client's takes its place.
    await load(bench, "b", api_key="three")
    await older.end()
    assert not newer.ended


async def test_an_unload_stops_the_workers_and_a_load_starts_them_again(bench: Bench) -> None:
    process = await load(bench, "a")
    async with bounded():
        await bench.pool.unload("fake")
    assert process.stops == 1
    assert [worker.state for worker in bench.pool.workers()] == ["stopped"]
    await load(bench, "a")
    assert bench.spawn.count == 2


async def test_an_unload_during_a_start_ends_the_load(bench: Bench) -> None:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "a"))
    process = await bench.spawn.next_process()
    async with bounded():
        await bench.pool.unload("fake")
    with pytest.raises(Unloaded):
        await task
    assert process.stops == 1


async def test_an_unload_in_the_moment_of_the_greeting_ends_the_load(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "a"))
    process = await bench.spawn.next_process()
    unloading = asyncio.ensure_future(bench.pool.unload("fake"))
    await asyncio.sleep(0)
    process.greet()
    with pytest.raises(Unloaded):
        await task
    async with bounded():
        await unloading
    assert process.stops == 1
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_an_unload_during_a_build_ends_the_load_and_leaves_no_process(bench: Bench) -> None:
    bench.environments.ready.clear()
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "a"))
    await bench.environments.asked.wait()
    async with bounded():
        await bench.pool.unload("fake")
    with pytest.raises(Unloaded):
        await task
    assert bench.spawn.count == 0


async def test_unloading_an_unknown_name_is_refused_and_nothing_running_is_fine(bench: Bench) -> None:
    with pytest.raises(UnknownProvider):
        await bench.pool.unload("nope")
    await bench.pool.unload("fake")


async def test_a_load_while_the_worker_stops_waits_and_starts_it_again(bench: Bench) -> None:
    process = await load(bench, "a")
    process.stoppable.clear()
    unloading = asyncio.ensure_future(bench.pool.unload("fake"))
    await asyncio.sleep(0)
    loading = asyncio.ensure_future(bench.pool.load(bench.fields(), "a"))
    await asyncio.sleep(0)
    assert bench.spawn.count == 1
    process.stoppable.set()
    await bench.spawn.loaded()
    async with bounded():
        await asyncio.gather(unloading, loading)
    assert bench.spawn.count == 2


async def test_what_runs_and_what_there_is_can_be_asked(make_bench: MakeBench) -> None:
    bench = make_bench(own_key="own-key")
    assert bench.pool.providers()["fake"].running is False
    process = await load(bench, "a")
    details = bench.pool.providers()["fake"]
    assert (details.running, details.installed, details.has_api_key) == (True, True, True)
    assert details.options["num_ctx"].default == 1
    (worker,) = bench.pool.workers()
    assert (worker.provider, worker.state, worker.pid) == ("fake", "ready", process.pid)
    assert [(entry.name, entry.state) for entry in bench.pool.environments()] == [("fake", "ready")]


async def test_the_model_list_is_the_one_read_at_the_load(bench: Bench) -> None:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "a"))
    process = await bench.spawn.loaded("one", "two")
    async with bounded():
        loaded = await task
        listed = await bench.pool.models(loaded)
    assert [model.id for model in listed.models] == ["one", "two"]
    assert process.nothing_sent()


async def test_a_model_list_that_never_comes_is_given_up(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waifu_llm.supervision.context.MODELS_FRESH_S", -1.0)
    bench = make_bench(key_check_s=0.05)
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "a"))
    process = await bench.spawn.loaded("one")
    async with bounded():
        loaded = await task
        listed = await bench.pool.models(loaded)
    assert [model.id for model in listed.models] == ["one"]
    asked = await process.next_sent(wire.Models)
    assert (await process.next_sent(wire.Cancel)).id == asked.id


async def test_a_context_is_let_go_though_its_worker_does_not_read(make_bench: MakeBench) -> None:
    bench = make_bench(idle_s=0.01)
    process = await load(bench, "a")
    task = asyncio.ensure_future(bench.pool.load(bench.fields(num_ctx=9), "b"))
    message = await process.next_sent(wire.Load)
    process.say(wire.Failed(id=message.id, error=wire.Code.INVALID_MODEL, message="no such model"))
    process.unsent = 65 * 1024 * 1024
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))
    with pytest.raises(WorkerFailure):
        await task
    bench.pool.release("a")
    await process.end()
    assert told == []


async def test_a_load_that_waits_for_the_keyring_while_the_module_stops_starts_nothing(make_bench: MakeBench) -> None:
    asked, go = threading.Event(), threading.Event()

    def look() -> str:
        asked.set()
        assert go.wait(WAIT_S)
        return "own-canary"

    bench = make_bench(find_key=look)
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "a"))
    await asyncio.to_thread(asked.wait, WAIT_S)
    await bench.pool.close()
    go.set()
    with pytest.raises(Closing):
        async with bounded():
            await task
    assert bench.spawn.count == 0


async def test_a_forgotten_context_that_is_used_once_more_takes_none_of_its_successor_along(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(idle_s=0.01)
    task = asyncio.ensure_future(bench.pool.load(bench.fields(api_key="one"), "a"))
    first = await bench.spawn.loaded()
    async with bounded():
        old = await task
    await load(bench, "b", api_key="two")
    bench.pool.release("a")
    await first.end()
    successor = await load(bench, "c", api_key="one")
    sink = RecordingSink()
    bench.pool.generate(old, job(), "a", sink)
    again = await bench.spawn.loaded()
    message = await again.next_sent(wire.Generate)
    again.say(wire.Done(id=message.id))
    await sink.ending()
    await again.end()
    bench.pool.release("c")
    await successor.end()
