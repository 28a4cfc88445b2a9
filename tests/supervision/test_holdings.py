"""How many workers and loads there may be, and who makes room."""

import asyncio

import pytest
from support.fake_process import FakeProcess
from support.pool_bench import Bench, MakeBench, RecordingSink, job
from support.waiting import bounded, until

from waifu_llm.config import LimitSettings
from waifu_llm.errors import Busy, Closing
from waifu_llm.supervision import holdings
from waifu_llm.supervision.jobs import Loaded
from waifu_worker import wire


async def load(bench: Bench, connection: str, **fields: object) -> tuple[Loaded, FakeProcess]:
    """A load that needs a worker of its own."""
    loading = asyncio.create_task(bench.pool.load(bench.fields(**fields), connection))
    process = await bench.spawn.loaded()
    async with bounded():
        return await loading, process


def two_workers(make_bench: MakeBench) -> Bench:
    return make_bench(limits=LimitSettings(workers=2))


async def test_a_load_that_needs_one_worker_too_many_is_told_that_it_is_busy(make_bench: MakeBench) -> None:
    bench = two_workers(make_bench)
    await load(bench, "a", api_key="one-key")
    await load(bench, "b", api_key="two-key")
    with pytest.raises(Busy, match=r"limits\.workers"):
        await bench.pool.load(bench.fields(api_key="three-key"), "c")
    assert bench.spawn.count == 2
    # Who needs no worker of its own is not concerned.
    async with bounded():
        await bench.pool.load(bench.fields(api_key="two-key"), "c")


async def test_a_hundred_keys_of_one_client_are_never_more_workers_than_there_may_be(make_bench: MakeBench) -> None:
    bench = make_bench(limits=LimitSettings(workers=3))
    _, neighbours = await load(bench, "neighbour", api_key="neighbours-key")
    processes = []
    for n in range(100):
        processes.append((await load(bench, "greedy", api_key=f"key-number-{n}"))[1])
        assert len([process for process in processes if not process.ended]) <= 2
    assert not neighbours.ended


async def test_the_worker_that_nobody_used_for_longest_makes_room(make_bench: MakeBench) -> None:
    bench = make_bench(limits=LimitSettings(workers=3))
    _, first = await load(bench, "a", api_key="one-key")
    _, second = await load(bench, "b", api_key="two-key")
    await load(bench, "c", api_key="three-key")
    bench.pool.release("b")
    bench.pool.release("a")
    await load(bench, "d", api_key="four-key")
    async with bounded():
        await second.end()
    assert not first.ended
    assert len(bench.pool.workers()) == 3


async def test_a_worker_in_use_never_makes_room(make_bench: MakeBench) -> None:
    bench = two_workers(make_bench)
    loaded, first = await load(bench, "a", api_key="one-key")
    _, second = await load(bench, "b", api_key="two-key")
    bench.pool.generate(loaded, job(), "a", RecordingSink())
    bench.pool.release("a")
    with pytest.raises(Busy):
        await bench.pool.load(bench.fields(api_key="three-key"), "c")
    assert not first.ended
    assert not second.ended


async def waits_for_room(bench: Bench) -> tuple[FakeProcess, asyncio.Task[Loaded]]:
    """The worker that makes room, and takes its time, and the load that waits for it."""
    _, first = await load(bench, "a", api_key="one-key")
    await load(bench, "b", api_key="two-key")
    bench.pool.release("a")
    first.stoppable.clear()
    loading = asyncio.create_task(bench.pool.load(bench.fields(api_key="three-key"), "c"))
    await until(lambda: first.stops > 0, "the worker is told to stop")
    return first, loading


async def test_one_that_still_ends_is_waited_for(make_bench: MakeBench) -> None:
    bench = two_workers(make_bench)
    first, loading = await waits_for_room(bench)
    assert bench.spawn.count == 2
    first.stoppable.set()
    await bench.spawn.loaded()
    async with bounded():
        await loading


async def test_a_load_that_waits_for_room_when_the_module_stops_is_told_so(make_bench: MakeBench) -> None:
    bench = two_workers(make_bench)
    first, loading = await waits_for_room(bench)
    closing = asyncio.create_task(bench.pool.close())
    await asyncio.sleep(0)
    first.stoppable.set()
    async with bounded():
        await closing
        with pytest.raises(Closing):
            await loading


async def test_of_too_many_loads_on_one_worker_those_that_nobody_holds_are_forgotten(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holdings, "MOST_CONTEXTS", 3)
    bench = make_bench()
    process = None
    for n in range(6):
        loading = asyncio.create_task(bench.pool.load(bench.fields(num_ctx=n + 1), "a"))
        process = process or await bench.spawn.next_ready()
        await answer(process)
        async with bounded():
            await loading
    assert len(list(bench.pool._holdings.contexts)) <= 3
    for connection in ("b", "c"):
        loading = asyncio.create_task(bench.pool.load(bench.fields(num_ctx=ord(connection)), connection))
        assert process is not None
        await answer(process)
        async with bounded():
            await loading
    with pytest.raises(Busy, match="different loads"):
        await bench.pool.load(bench.fields(num_ctx=1000), "d")


async def answer(process: FakeProcess) -> None:
    """The worker's answer to its next load; what it is told to forget before it is read over."""
    while True:
        async with bounded():
            message = await process._sent.get()
        if isinstance(message, wire.Load):
            process.say(wire.Done(id=message.id, models=()))
            return
