"""W18, R17: workers that use more memory or CPU time than the user lets them; looking at them blocks nobody."""

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.fake_process import FakeProcess
from support.pool_bench import Bench, MakeBench, RecordingSink, job
from support.puppet import puppet
from support.running_module import running_module
from support.waiting import WAIT_S, bounded, until

from waifu_client import connect
from waifu_client.errors import LLMError
from waifu_llm.config import WorkerSettings
from waifu_llm.errors import OutOfMemory
from waifu_llm.supervision import scales
from waifu_llm.supervision.jobs import Loaded
from waifu_llm.supervision.weight import MIB
from waifu_worker import wire

GIB = 1024 * MIB


async def loaded(bench: Bench, connection: object = "c", **fields: object) -> tuple[Loaded, FakeProcess]:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(**fields), connection))
    process = await bench.spawn.loaded()
    async with bounded():
        return await task, process


@pytest.mark.virtual_time
async def test_w18_a_worker_over_its_limit_ends_with_out_of_memory_and_others_go_on(make_bench: MakeBench) -> None:
    bench = make_bench(memory_mb=100)
    load, process = await loaded(bench)
    other_load, other = await loaded(bench, "d", base_url="http://localhost:1")
    sink, second, neighbour = RecordingSink(), RecordingSink(), RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    bench.pool.generate(load, job(), "c", second)
    bench.pool.generate(other_load, job(), "d", neighbour)
    message = await process.next_sent(wire.Generate)
    process.say(wire.Chunk(id=message.id, texts=("so far",)))
    bench.machine.by_pid[process.pid] = 101 * MIB
    for ending in (await sink.ending(), await second.ending()):
        assert ending.failure is not None
        assert (ending.failure.code, ending.failure.reason) == ("UNEXPECTED", "out_of_memory")
        assert "101 MiB of memory, over its limit of 100 MiB (workers.memory_mb)" in ending.failure.message
    assert sink.text == ["so far"]
    assert process.kills == 1
    other.say(wire.Done(id=(await other.next_sent(wire.Generate)).id))
    assert (await neighbour.ending()).failure is None
    again = RecordingSink()
    bench.pool.generate(load, job(), "c", again)
    process = await bench.spawn.loaded()
    process.say(wire.Done(id=(await process.next_sent(wire.Generate)).id))
    assert (await again.ending()).failure is None


@pytest.mark.virtual_time
async def test_w18_one_that_is_too_heavy_before_it_is_ready_fails_its_load(make_bench: MakeBench) -> None:
    bench = make_bench(memory_mb=10)
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "c"))
    process = await bench.spawn.next_process()
    with pytest.raises(OutOfMemory, match="over its limit of 10 MiB"):
        await task
    assert process.ended


@pytest.mark.virtual_time
async def test_w18_one_that_grows_again_and_again_is_given_up_until_the_next_load(make_bench: MakeBench) -> None:
    bench = make_bench(memory_mb=100, crashes=2)
    load, process = await loaded(bench)
    for _ in range(2):
        sink = RecordingSink()
        bench.pool.generate(load, job(), "c", sink)
        if process.ended:
            process = await bench.spawn.loaded()
        await process.next_sent(wire.Generate)
        bench.machine.by_pid[process.pid] = GIB
        await sink.ending()
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    failure = (await sink.ending()).failure
    assert failure is not None
    assert failure.reason == "out_of_memory"
    assert "restart limit is used up" in failure.message


@pytest.mark.virtual_time
async def test_w18_where_the_machine_runs_out_the_heaviest_worker_is_ended_alone(make_bench: MakeBench) -> None:
    bench = make_bench(memory_mb=12_000)
    light_load, light = await loaded(bench)
    heavy_load, heavy = await loaded(bench, "d", base_url="http://localhost:1")
    sink = RecordingSink()
    bench.pool.generate(heavy_load, job(), "d", sink)
    bench.machine.by_pid.update({light.pid: GIB, heavy.pid: 9 * GIB})
    bench.machine.available = 100 * MIB
    failure = (await sink.ending()).failure
    assert failure is not None
    assert failure.reason == "out_of_memory"
    assert "the machine had 100 MiB of memory left" in failure.message
    bench.machine.available = 8 * GIB
    await asyncio.sleep(20)
    assert not light.ended
    assert light_load.provider == "fake"


@pytest.mark.virtual_time
async def test_without_a_limit_nobody_is_ended_and_what_each_uses_is_told(bench: Bench) -> None:
    _, process = await loaded(bench)
    bench.machine.by_pid[process.pid] = 15 * GIB
    bench.machine.available = 0
    await asyncio.sleep(20)
    (worker,) = bench.pool.workers()
    assert (worker.memory_bytes, worker.state) == (15 * GIB, "ready")
    process.exit(0)
    (worker,) = bench.pool.workers()
    assert (worker.memory_bytes, worker.state) == (None, "stopped")


async def test_r17_workers_are_weighed_in_a_thread_and_nobody_waits_for_it(make_bench: MakeBench) -> None:
    bench = make_bench()
    weighs, go = threading.Event(), threading.Event()
    weigh = bench.machine.weigh

    def slowly(pids: object) -> object:
        weighs.set()
        assert go.wait(WAIT_S)
        return weigh(pids)  # type: ignore[arg-type]

    bench.pool._scales._weigh = slowly  # type: ignore[assignment]
    await loaded(bench)
    assert weighs.is_set()
    assert [worker.memory_bytes for worker in bench.pool.workers()] == [None]
    go.set()
    await until(lambda: bench.pool.workers()[0].memory_bytes == bench.machine.each, "it was weighed")


@pytest.mark.virtual_time
async def test_what_cannot_be_weighed_is_logged_and_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(bench.pool._scales, "_weigh", lambda pids: 1 / 0)
        await loaded(bench)
        await asyncio.sleep(1)
    assert "workers could not be weighed" in caplog.text
    await asyncio.sleep(20)
    assert bench.pool.workers()[0].memory_bytes == bench.machine.each


async def test_w18_a_real_worker_that_eats_memory_is_ended_with_its_children_and_serves_again(
    home: Path, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scales, "_LIMITED_INTERVAL_S", 0.05)
    installed("fake")
    settings = WorkerSettings(memory_mb=300, nice=7)
    async with running_module(home, workers=settings) as module, puppet() as hand, connect(module.url) as llm:
        await llm.load("fake", puppet=hand.address)
        (worker,) = (await llm.stats()).workers
        if sys.platform != "win32":
            assert psutil.Process(worker.pid).nice() == 7
        heard: list[str] = []
        with pytest.raises(LLMError) as caught:
            async with bounded():
                async for chunk in llm.stream("x", model_id="eat=400"):
                    heard.append(chunk)
        assert (caught.value.code, caught.value.reason) == ("UNEXPECTED", "out_of_memory")
        assert "limit of 300 MiB (workers.memory_mb)" in caught.value.message
        assert heard == ["0 "]
        async with bounded():
            assert (await llm.generate("hello", model_id="echo")).text == "hello"


async def test_w18_memory_that_the_worker_itself_cannot_get_ends_one_request_only(url: str) -> None:
    async with connect(url) as llm:
        await llm.load("fake")
        before = (await llm.stats()).workers[0].pid
        with pytest.raises(LLMError) as caught:
            async with bounded():
                await llm.generate("x", model_id="limited=64")
        assert (caught.value.code, caught.value.reason) == ("UNEXPECTED", "out_of_memory")
        async with bounded():
            assert (await llm.generate("hello", model_id="echo")).text == "hello"
        assert (await llm.stats()).workers[0].pid == before


async def test_w18_one_that_the_system_killed_is_said_to_be(url: str) -> None:
    async with puppet() as hand, connect(url) as llm:
        await llm.load("fake", puppet=hand.address)
        task = asyncio.ensure_future(llm.generate("x", model_id="puppet"))
        strand = await hand.strand()
        psutil.Process(strand.pid).kill()
        with pytest.raises(LLMError) as caught:
            async with bounded():
                await task
        assert "signal 9, SIGKILL" in caught.value.message
        assert "no memory left" in caught.value.message
