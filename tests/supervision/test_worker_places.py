"""One process per worker, ever; and the last worker that was loaded makes room where no other can."""

import asyncio

import pytest
from support.fake_process import FakeProcess
from support.pool_bench import Bench, MakeBench, RecordingSink, job
from support.waiting import bounded, until

from waifu_llm.config import LimitSettings
from waifu_llm.errors import Busy, InstallFailed
from waifu_llm.supervision.jobs import Loaded
from waifu_llm.supervision.state import WorkerState
from waifu_worker import wire


async def load(bench: Bench, connection: str, **fields: object) -> tuple[Loaded, FakeProcess]:
    """A load that starts a process."""
    loading = asyncio.create_task(bench.pool.load(bench.fields(**fields), connection))
    process = await bench.spawn.loaded()
    async with bounded():
        return await loading, process


async def idle_and_stopping(bench: Bench) -> FakeProcess:
    """A worker whose time is over, and which takes its time to stop; another one is the last loaded."""
    _, first = await load(bench, "a", api_key="one-key")
    await load(bench, "b", api_key="two-key")
    first.stoppable.clear()
    bench.pool.release("a")
    await until(lambda: first.stops > 0, "the worker is told to stop")
    return first


async def test_a_load_that_comes_while_the_idle_worker_stops_starts_no_second_process(make_bench: MakeBench) -> None:
    bench = make_bench(idle_s=0.0)
    first = await idle_and_stopping(bench)
    states = {worker.pid: worker.state for worker in bench.pool.workers()}
    assert states[first.pid] == WorkerState.STOPPING
    loading = asyncio.create_task(bench.pool.load(bench.fields(api_key="one-key"), "c"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert (bench.spawn.count, first.ended) == (2, False)
    first.exit(0)
    await bench.spawn.loaded()
    async with bounded():
        await loading
    assert bench.spawn.count == 3
    assert len(bench.pool.workers()) == 2


async def test_a_worker_that_stops_is_counted_until_it_has_stopped_and_once(make_bench: MakeBench) -> None:
    bench = make_bench(idle_s=0.0, limits=LimitSettings(workers=3))
    first = await idle_and_stopping(bench)
    await load(bench, "c", api_key="three-key")
    fourth = asyncio.create_task(bench.pool.load(bench.fields(api_key="four-key"), "d"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert bench.spawn.count == 3
    first.exit(0)
    await bench.spawn.loaded()
    async with bounded():
        await fourth


async def test_a_worker_that_has_stopped_for_good_is_forgotten(make_bench: MakeBench) -> None:
    bench = make_bench(idle_s=0.0)
    first = await idle_and_stopping(bench)
    first.exit(0)
    await until(lambda: len(bench.pool.workers()) == 1, "only the other worker is known")
    assert len(list(bench.pool._holdings.contexts)) == 1


async def test_where_there_is_one_place_the_next_provider_gets_it(make_bench: MakeBench) -> None:
    bench = make_bench(limits=LimitSettings(workers=1))
    _, first = await load(bench, "a", api_key="one-key")
    with pytest.raises(Busy, match=r"limits\.workers = 1"):
        await bench.pool.load(bench.fields(api_key="two-key"), "b")
    bench.pool.release("a")
    loading = asyncio.create_task(bench.pool.load(bench.fields(api_key="two-key"), "b"))
    await first.end()
    await bench.spawn.loaded()
    async with bounded():
        await loading
    assert [worker.state for worker in bench.pool.workers()] == [WorkerState.STOPPED, WorkerState.READY]


@pytest.mark.parametrize("idle_s", [0.0, 300.0])
async def test_the_shared_load_stays_valid_though_its_worker_made_room(make_bench: MakeBench, idle_s: float) -> None:
    bench = make_bench(limits=LimitSettings(workers=1), idle_s=idle_s)
    shared, first = await load(bench, "a", api_key="one-key")
    bench.pool.release("a")
    bench.environments.error = InstallFailed("no network")
    with pytest.raises(InstallFailed):
        await bench.pool.load(bench.fields(api_key="two-key"), "b")
    bench.environments.error = None
    assert (first.ended, bench.pool.last_loaded) == (True, shared)
    sink = RecordingSink()
    bench.pool.generate(shared, job(), "c", sink)
    again = await bench.spawn.loaded()
    again.say(wire.Done(id=(await again.next_sent(wire.Generate)).id))
    assert (await sink.ending()).failure is None
