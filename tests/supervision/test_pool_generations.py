"""Generations: text in order, one end each, queue, cancel, crash, restart."""

import asyncio

import pytest
from support.fake_process import FakeProcess
from support.pool_bench import Bench, MakeBench, RecordingSink, job
from support.waiting import bounded

from waifu_llm.config import LimitSettings
from waifu_llm.errors import Busy, Closing, WorkerCrashed
from waifu_llm.supervision.context import Context
from waifu_llm.supervision.jobs import Loaded
from waifu_worker import wire


async def loaded(bench: Bench, connection: object = "c") -> tuple[Loaded, FakeProcess]:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), connection))
    process = await bench.spawn.loaded()
    async with bounded():
        return await task, process


async def test_text_arrives_in_order_and_ends_once(bench: Bench) -> None:
    load, process = await loaded(bench)
    sink = RecordingSink()
    bench.pool.generate(load, job("hello"), "c", sink)
    message = await process.next_sent(wire.Generate)
    assert (message.prompt, message.stream, message.time_left_ms) == ("hello", True, None)
    usage = wire.Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    process.say(
        wire.Chunk(id=message.id, texts=("a",)),
        wire.Chunk(id=message.id, texts=("b",)),
        wire.Done(id=message.id, finish_reason="stop", usage=usage, ignored=("seed",)),
        wire.Chunk(id=message.id, texts=("late",)),
        wire.Done(id=message.id),
        wire.Chunk(id=999_999, texts=("foreign",)),
    )
    ending = await sink.ending()
    assert sink.text == ["a", "b"]
    assert (ending.failure, ending.finish_reason, ending.usage, ending.ignored) == (None, "stop", usage, ("seed",))


async def test_the_wire_carries_the_time_that_is_left(bench: Bench) -> None:
    load, process = await loaded(bench)
    bench.pool.generate(load, job(deadline=asyncio.get_running_loop().time() + 1000), "c", RecordingSink())
    message = await process.next_sent(wire.Generate)
    assert message.time_left_ms is not None
    assert 0 < message.time_left_ms <= 1_000_000


async def test_a_failure_of_the_worker_reaches_the_sink_as_it_came(bench: Bench) -> None:
    load, process = await loaded(bench)
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    message = await process.next_sent(wire.Generate)
    process.say(
        wire.Failed(
            id=message.id, error=wire.Code.UNEXPECTED, message="slow down", reason="rate_limited", retry_after_ms=7
        )
    )
    failure = (await sink.ending()).failure
    assert failure is not None
    assert (failure.code, failure.reason, failure.retry_after_ms) == ("UNEXPECTED", "rate_limited", 7)


@pytest.mark.parametrize("chunks", [0, 1, 50])
async def test_a_crash_ends_each_request_once_and_keeps_what_was_sent(bench: Bench, chunks: int) -> None:
    load, process = await loaded(bench)
    sinks = [RecordingSink() for _ in range(3)]
    for sink in sinks:
        bench.pool.generate(load, job(), "c", sink)
    messages = [await process.next_sent(wire.Generate) for _ in sinks]
    for message in messages:
        process.say(*(wire.Chunk(id=message.id, texts=(f"{n} ",)) for n in range(chunks)))
    process.complain("Segmentation fault\n")
    process.exit(-11)
    for sink in sinks:
        failure = (await sink.ending()).failure
        assert failure is not None
        assert (failure.code, failure.reason) == ("UNEXPECTED", "worker_crashed")
        assert "SIGSEGV" in failure.message
        assert "Segmentation fault" in failure.message
        assert sink.text == [f"{n} " for n in range(chunks)]


async def test_the_next_generation_after_a_crash_starts_the_worker_and_loads_it_again(bench: Bench) -> None:
    load, process = await loaded(bench)
    process.exit(-9)
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    again = await bench.spawn.loaded()
    message = await again.next_sent(wire.Generate)
    again.say(wire.Chunk(id=message.id, texts=("back",)), wire.Done(id=message.id))
    await sink.ending()
    assert sink.text == ["back"]
    assert bench.statistics.counters()["fake"].restarts == 1


async def test_a_load_stays_valid_across_an_unload(bench: Bench) -> None:
    load, _ = await loaded(bench)
    async with bounded():
        await bench.pool.unload("fake")
    bench.pool.generate(load, job(), "c", RecordingSink())
    again = await bench.spawn.loaded()
    await again.next_sent(wire.Generate)


async def test_a_crash_loop_ends_in_failed_until_the_next_load(make_bench: MakeBench) -> None:
    bench = make_bench(crashes=3)
    load, process = await loaded(bench)
    for round_ in range(3):
        sink = RecordingSink()
        bench.pool.generate(load, job(), "c", sink)
        if round_:
            process = await bench.spawn.loaded()
        await process.next_sent(wire.Generate)
        process.exit(1)
        await sink.ending()
    assert [worker.state for worker in bench.pool.workers()] == ["failed"]
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    failure = (await sink.ending()).failure
    assert failure is not None
    assert "restart limit is used up" in failure.message
    assert failure.reason == "worker_crashed"
    assert bench.spawn.count == 3
    load, process = await loaded(bench)
    assert [worker.state for worker in bench.pool.workers()] == ["ready"]


async def test_a_load_in_the_turn_of_a_generation_starts_again_what_failed(make_bench: MakeBench) -> None:
    bench = make_bench(crashes=1)
    load, process = await loaded(bench)
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    await process.next_sent(wire.Generate)
    process.exit(1)
    await sink.ending()
    assert [worker.state for worker in bench.pool.workers()] == ["failed"]
    assert isinstance(load, Context)
    both = asyncio.gather(load.ensure(by_load=False), load.ensure(by_load=True), return_exceptions=True)
    async with bounded():
        await bench.spawn.loaded()
        of_generation, of_load = await both
    assert isinstance(of_generation, WorkerCrashed)
    assert of_load is None


async def test_a_worker_that_delivers_and_dies_is_started_again_without_counting(make_bench: MakeBench) -> None:
    bench = make_bench(crashes=1)
    load, process = await loaded(bench)
    for _ in range(3):
        sink = RecordingSink()
        bench.pool.generate(load, job(), "c", sink)
        message = await process.next_sent(wire.Generate)
        process.say(wire.Chunk(id=message.id, texts=("x",)))
        process.exit(1)
        await sink.ending()
        sink = RecordingSink()
        bench.pool.generate(load, job(), "c", sink)
        process = await bench.spawn.loaded()
        message = await process.next_sent(wire.Generate)
        process.say(wire.Done(id=message.id))
        await sink.ending()


async def test_a_restart_that_fails_ends_the_generation_with_its_reason(bench: Bench) -> None:
    load, process = await loaded(bench)
    process.exit(1)
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    again = await bench.spawn.next_process()
    again.complain("no such file\n")
    again.exit(3)
    failure = (await sink.ending()).failure
    assert failure is not None
    assert failure.reason == "start_failed"
    assert "no such file" in failure.message


async def test_a_cancelled_generation_is_silent_and_cancelled_at_the_worker(bench: Bench) -> None:
    load, process = await loaded(bench)
    sink = RecordingSink()
    generation = bench.pool.generate(load, job(), "c", sink)
    message = await process.next_sent(wire.Generate)
    bench.pool.cancel(generation)
    assert (await process.next_sent(wire.Cancel)).id == message.id
    process.say(
        wire.Chunk(id=message.id, texts=("late",)),
        wire.Failed(id=message.id, error=wire.Code.INTERRUPT, message="cancelled"),
    )
    bench.pool.cancel(generation)
    assert (sink.text, sink.endings) == ([], [])
    assert not process.ended
    assert process.nothing_sent()


async def test_a_worker_that_ignores_a_cancel_is_killed_and_its_other_requests_end(make_bench: MakeBench) -> None:
    bench = make_bench(cancel_s=0.01)
    load, process = await loaded(bench)
    stuck, other = RecordingSink(), RecordingSink()
    generation = bench.pool.generate(load, job(), "c", stuck)
    bench.pool.generate(load, job(), "c", other)
    bench.pool.cancel(generation)
    failure = (await other.ending()).failure
    assert failure is not None
    assert failure.reason == "worker_crashed"
    assert "did not stop a request" in failure.message
    assert process.kills == 1
    assert stuck.endings == []


async def test_a_cancel_while_the_worker_starts_never_reaches_the_worker(bench: Bench) -> None:
    load, process = await loaded(bench)
    process.exit(1)
    sink = RecordingSink()
    generation = bench.pool.generate(load, job(), "c", sink)
    again = await bench.spawn.next_ready()
    reload = await again.next_sent(wire.Load)
    bench.pool.cancel(generation)
    assert (await again.next_sent(wire.Cancel)).id == reload.id
    assert again.nothing_sent()
    assert sink.endings == []


async def test_a_generation_that_is_ended_twice_while_its_worker_starts_gives_one_place_back(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(limits=LimitSettings(running=2, queued=9))
    load, process = await loaded(bench)
    process.exit(1)
    generation = bench.pool.generate(load, job(), "c", RecordingSink())
    await bench.spawn.next_process()
    bench.pool.cancel(generation)
    async with bounded():
        await asyncio.gather(bench.pool.unload("fake"), bench.pool.unload("fake"))
    sinks = [RecordingSink() for _ in range(3)]
    for sink in sinks:
        bench.pool.generate(load, job(), "c", sink)
    (worker,) = bench.pool.workers()
    assert (worker.running, worker.queued) == (2, 1)
    process = await bench.spawn.loaded()
    for _ in sinks:
        process.say(wire.Done(id=(await process.next_sent(wire.Generate)).id))
    for sink in sinks:
        assert (await sink.ending()).failure is None


async def test_requests_beyond_the_places_wait_their_turn_and_beyond_the_queue_are_refused(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(limits=LimitSettings(running=2, queued=1))
    load, process = await loaded(bench)
    sinks = [RecordingSink() for _ in range(3)]
    for sink in sinks:
        bench.pool.generate(load, job(), "c", sink)
    with pytest.raises(Busy):
        bench.pool.generate(load, job(), "c", RecordingSink())
    first, second = await process.next_sent(wire.Generate), await process.next_sent(wire.Generate)
    assert process.nothing_sent()
    (worker,) = bench.pool.workers()
    assert (worker.running, worker.queued) == (2, 1)
    process.say(wire.Done(id=first.id))
    third = await process.next_sent(wire.Generate)
    process.say(wire.Done(id=second.id), wire.Done(id=third.id))
    for sink in sinks:
        assert (await sink.ending()).failure is None
    assert bench.statistics.counters()["fake"].queued == 1


async def test_a_queued_generation_that_is_cancelled_never_starts(make_bench: MakeBench) -> None:
    bench = make_bench(limits=LimitSettings(running=1, queued=9))
    load, process = await loaded(bench)
    running, dropped, last = RecordingSink(), RecordingSink(), RecordingSink()
    bench.pool.generate(load, job("running"), "c", running)
    generation = bench.pool.generate(load, job("dropped"), "c", dropped)
    bench.pool.generate(load, job("last"), "c", last)
    message = await process.next_sent(wire.Generate)
    bench.pool.cancel(generation)
    process.say(wire.Done(id=message.id))
    following = await process.next_sent(wire.Generate)
    assert following.prompt == "last"
    process.say(wire.Done(id=following.id))
    await last.ending()
    assert dropped.endings == []


async def test_a_long_queue_that_fails_at_once_does_not_nest(make_bench: MakeBench) -> None:
    bench = make_bench(limits=LimitSettings(running=1, queued=5000), crashes=1)
    load, process = await loaded(bench)
    sinks = [RecordingSink() for _ in range(3000)]
    for sink in sinks:
        bench.pool.generate(load, job(), "c", sink)
    await process.next_sent(wire.Generate)
    process.exit(1)
    for sink in sinks:
        assert (await sink.ending()).failure is not None


async def test_an_unload_ends_running_and_queued_generations_with_interrupt(make_bench: MakeBench) -> None:
    bench = make_bench(limits=LimitSettings(running=1, queued=9))
    load, process = await loaded(bench)
    sinks = [RecordingSink(), RecordingSink()]
    for sink in sinks:
        bench.pool.generate(load, job(), "c", sink)
    async with bounded():
        await bench.pool.unload("fake")
    for sink in sinks:
        failure = (await sink.ending()).failure
        assert failure is not None
        assert (failure.code, failure.reason) == ("INTERRUPT", "unloaded")
    assert bench.spawn.count == 1
    assert process.ended


async def test_a_generation_asked_for_after_an_unload_starts_the_worker_again(bench: Bench) -> None:
    load, _ = await loaded(bench)
    unloading = asyncio.ensure_future(bench.pool.unload("fake"))
    await asyncio.sleep(0)
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    process = await bench.spawn.loaded()
    process.say(wire.Done(id=(await process.next_sent(wire.Generate)).id))
    assert (await sink.ending()).failure is None
    async with bounded():
        await unloading


async def test_close_ends_everything_once_and_refuses_more(bench: Bench) -> None:
    load, process = await loaded(bench)
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    async with bounded():
        await bench.pool.close()
    failure = (await sink.ending()).failure
    assert failure is not None
    assert (failure.code, failure.reason) == ("INTERRUPT", "closing")
    assert process.ended
    with pytest.raises(Closing):
        bench.pool.generate(load, job(), "c", sink)
    with pytest.raises(Closing):
        await bench.pool.load(bench.fields(), "c")


async def test_garbage_lines_are_skipped_and_the_stream_goes_on(bench: Bench) -> None:
    load, process = await loaded(bench)
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    message = await process.next_sent(wire.Generate)
    for garbage in (b"hello\n", b"{}\n", b'{"type":"chunk"}\n', b"\xff\xfe\n", b"[" * 5000 + b"\n", b"\n"):
        process.write_raw(garbage)
        process.say(wire.Chunk(id=message.id, texts=("x",)))
    process.say(wire.Done(id=message.id))
    await sink.ending()
    assert "".join(sink.text) == "xxxxxx"


async def test_a_worker_that_writes_nothing_but_garbage_is_killed(bench: Bench) -> None:
    load, process = await loaded(bench)
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    process.write_raw(b"noise\n" * 100)
    failure = (await sink.ending()).failure
    assert failure is not None
    assert "100 lines that are no messages" in failure.message
    assert process.kills == 1


async def test_a_line_over_the_limit_kills_the_worker(bench: Bench) -> None:
    load, process = await loaded(bench)
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    for _ in range(17):
        process.write_raw(b"x" * (1024 * 1024))
    failure = (await sink.ending()).failure
    assert failure is not None
    assert "over the limit" in failure.message


async def test_a_worker_that_does_not_read_gets_no_more(bench: Bench) -> None:
    load, process = await loaded(bench)
    process.unsent = 65 * 1024 * 1024
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    failure = (await sink.ending()).failure
    assert failure is not None
    assert failure.reason == "busy"


async def test_old_news_of_a_replaced_process_changes_nothing(bench: Bench) -> None:
    load, old = await loaded(bench)
    old.exit(1)
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    process = await bench.spawn.loaded()
    message = await process.next_sent(wire.Generate)
    old._events.output(b'{"type":"done","id":%d}\n' % message.id)
    old._events.exited(0)
    assert sink.endings == []
    process.say(wire.Done(id=message.id))
    assert (await sink.ending()).failure is None


async def test_a_bug_of_ours_ends_the_generation_gives_its_place_back_and_is_logged(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench(limits=LimitSettings(running=1, queued=9))
    load, process = await loaded(bench)
    sinks = [RecordingSink(), RecordingSink()]
    with monkeypatch.context() as patch:
        patch.setattr(process, "write", lambda data: 1 / 0)
        bench.pool.generate(load, job(), "c", sinks[0])
        failure = (await sinks[0].ending()).failure
    assert failure is not None
    assert "ZeroDivisionError" in failure.message
    assert "ZeroDivisionError" in caplog.text
    bench.pool.generate(load, job(), "c", sinks[1])
    process.say(wire.Done(id=(await process.next_sent(wire.Generate)).id))
    assert (await sinks[1].ending()).failure is None
