"""W8 to W13, W20, W23: real workers that flood, cut, block or close their pipes, and others that notice nothing."""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterable, Callable
from pathlib import Path
from typing import Final

import psutil
import pytest
from support.fake_process import FakeProcess
from support.pool_bench import Bench, RecordingSink, job
from support.puppet import puppet
from support.raw_pool import raw_pool
from support.running_module import running_module
from support.waiting import WAIT_S, bounded, until, wait_gone

from waifu_client import Client, connect
from waifu_client.errors import LLMError
from waifu_llm import log
from waifu_llm.supervision import channel, process
from waifu_llm.supervision.jobs import Loaded
from waifu_worker import wire
from waifu_worker.wire import MAX_LINE_BYTES

MIB: Final = 2**20


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


async def loaded(bench: Bench) -> tuple[Loaded, FakeProcess]:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "c"))
    made = await bench.spawn.loaded()
    async with bounded():
        return await task, made


async def generated(llm: Client, model_id: str, text: str = "hello") -> str:
    async with bounded():
        return (await llm.generate(text, model_id=model_id)).text


async def failure(llm: Client, model_id: str, text: str = "hello") -> LLMError:
    with pytest.raises(LLMError) as caught:
        await generated(llm, model_id, text)
    return caught.value


# W8: a line of any length.


@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_w8_a_line_is_read_up_to_its_limit_and_over_it_ends_the_worker(bench: Bench, more: int) -> None:
    load, worker = await loaded(bench)
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    request = (await worker.next_sent(wire.Generate)).id
    frame = b'{"type":"chunk","id":%d,"texts":["%s"]}\n'
    size = MAX_LINE_BYTES + more - len(frame % (request, b"")) + 1
    data = frame % (request, b"x" * size)
    assert len(data) == MAX_LINE_BYTES + more + 1, "the newline is not counted"
    for begin in range(0, len(data), MIB):
        worker.write_raw(data[begin : begin + MIB])
    worker.say(wire.Done(id=request))
    ending = await sink.ending()
    if more <= 0:
        assert ending.failure is None
        assert [len(text) for text in sink.text] == [size]
    else:
        assert ending.failure is not None
        assert "over the limit" in ending.failure.message


async def test_w8_a_line_without_an_end_costs_less_than_twice_the_limit(bench: Bench) -> None:
    load, worker = await loaded(bench)
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    await worker.next_sent(wire.Generate)
    piece, before, most = b"x" * 65536, resident(), 0
    for _ in range(4 * MAX_LINE_BYTES // len(piece)):
        worker.write_raw(piece)
        most = max(most, psutil.Process().memory_info().rss - before)
    failure = (await sink.ending()).failure
    assert failure is not None
    assert "over the limit" in failure.message
    assert most < 2 * MAX_LINE_BYTES


# W10: a flood on stderr.


async def test_w10_a_flood_on_stderr_costs_its_neighbours_nothing_and_little_memory(url: str, home: Path) -> None:
    async with puppet() as hand, connect(url) as llm, connect(url) as other:
        await llm.load("fake")
        await other.load("fake", base_url="elsewhere", puppet=hand.address)
        before = resident()
        flood = asyncio.ensure_future(generated(llm, "flood-stderr=100000000"))
        heard: list[str] = []
        reading = asyncio.ensure_future(_read(other.stream("x", model_id="puppet"), heard))
        strand = await hand.strand()
        for number in range(20):
            await strand.chunk(f"{number} ")
        await strand.finish()
        await reading
        assert "".join(heard) == "".join(f"{number} " for number in range(20))
        async with asyncio.timeout(4 * WAIT_S):
            assert await flood == "hello"
        assert resident() - before < 64 * MIB
    assert await asyncio.to_thread(log.flush, WAIT_S)
    assert "lines left out: too many at once" in (home / "logs" / "fake.log").read_text("utf-8")


async def _read(stream: AsyncIterable[str], heard: list[str]) -> None:
    async with bounded():
        async for chunk in stream:
            heard.append(chunk)


# W11, W12: pipes that are full.


async def test_w11_a_worker_that_does_not_read_is_busy_and_others_are_served(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "UNSENT_LIMIT", 2 * MIB)
    prompt = "x" * MIB
    async with connect(url) as llm, connect(url) as other:
        await llm.load("fake")
        (worker,) = (await llm.stats()).workers
        await other.load("fake", base_url="elsewhere")
        heard: list[str] = []
        deaf = asyncio.ensure_future(_read(llm.stream("x", model_id="deaf=1"), heard))
        await until(lambda: heard == ["0 "], "it has stopped reading")
        waiting = [asyncio.ensure_future(failure(llm, "echo", prompt)) for _ in range(6)]
        async with bounded():
            while sum(task.done() for task in waiting) < 3:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=0.05)
        refused = [task.result() for task in waiting if task.done()]
        assert {(error.code, error.reason) for error in refused} == {("UNEXPECTED", "busy")}
        assert await generated(other, "echo", prompt) == prompt
        async with bounded():
            await llm.interrupt()
        for task in (deaf, *waiting):
            async with bounded():
                await asyncio.wait({task})
        assert isinstance(deaf.exception(), LLMError)
        async with bounded():
            while worker.pid in [one.pid for one in (await llm.stats()).workers]:
                pass
        assert await generated(llm, "echo") == "hello"


async def test_w12_both_pipes_may_be_full_and_all_requests_complete(tmp_path: Path) -> None:
    async with raw_pool(tmp_path) as raw:
        load = await raw.load(talk_first=MIB)
        sinks = [raw.generate(load, chunks=3, pad="x" * (MIB // 4)) for _ in range(50)]
        for sink in sinks:
            assert (await sink.ending()).failure is None
            assert "".join(sink.text) == "0 1 2 "


# W13: a worker that will not leave.


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to ignore")
async def test_w13_a_client_closes_the_module_though_its_worker_ignores_everything(
    home: Path, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STEP_S", 0.3)
    installed("fake")
    async with puppet() as hand, running_module(home) as module:
        monkeypatch.setenv("WAIFU_FAKE_START", f"ignore-term,ignore-eof,puppet={hand.address}")
        async with connect(module.url) as llm:
            load = asyncio.ensure_future(llm.load("fake"))
            strand = await hand.strand()
            strand.go()
            await until(lambda: _is_ready(strand.pid), "it ignores SIGTERM")
            async with bounded():
                await llm.close_module()
            with pytest.raises(LLMError):
                await load
        assert await module.ended() == 0
        wait_gone([strand.pid])


def _is_ready(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    ignored = int(next(line for line in status.splitlines() if line.startswith("SigIgn")).split()[1], 16)
    return bool(ignored >> (signal.SIGTERM - 1) & 1)


async def test_w13_the_steps_are_end_of_input_term_and_kill_each_with_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []
    monkeypatch.setattr(process, "STEP_S", 0.05)
    monkeypatch.setattr(process._Process, "_signal_group", lambda self, number: done.append(number.name))
    async with raw_pool(tmp_path) as raw:
        await raw.load()
        (worker,) = raw.pool.workers()
        stopped = psutil.Process(worker.pid)
        stopped.suspend()
        async with bounded():
            await raw.pool.unload("fake")
        assert done == ["SIGTERM", "SIGKILL"]
        assert "giving it up" in caplog.text
        stopped.kill()


# W20, W23, and lines of strangers through real pipes.


@pytest.mark.parametrize(("model_id", "text"), [("strangers=5", "0 1 2 3 4 "), ("two-ends", "")])
async def test_w20_what_a_real_worker_says_too_much_is_not_heard(
    url: str, home: Path, model_id: str, text: str
) -> None:
    async with connect(url) as llm:
        await llm.load("fake")
        assert await generated(llm, model_id) == text
        assert await generated(llm, "echo") == "hello"
    assert await asyncio.to_thread(log.flush, WAIT_S)
    assert (home / "logs" / "fake.log").read_text("utf-8").count("which it does not have") == 1


async def test_w23_a_worker_killed_between_its_start_and_its_first_line_fails_the_load_with_one_line(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with puppet() as hand, connect(url) as llm:
        monkeypatch.setenv("WAIFU_FAKE_START", f"puppet={hand.address}")
        load = asyncio.ensure_future(llm.load("fake"))
        strand = await hand.strand()
        psutil.Process(strand.pid).kill()
        with pytest.raises(LLMError) as caught:
            async with bounded():
                await load
        assert (caught.value.code, caught.value.reason) == ("UNEXPECTED", "start_failed")
        monkeypatch.delenv("WAIFU_FAKE_START")
        await llm.load("fake")
        assert await generated(llm, "echo") == "hello"
    assert "Broken pipe" not in caplog.text


async def test_w23_a_worker_that_closes_its_input_and_stays_is_ended_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "STEP_S", 0.05)
    async with raw_pool(tmp_path) as raw:
        load = await raw.load(deaf=True)
        sinks = [raw.generate(load) for _ in range(20)]
        for sink in sinks:
            failure = (await sink.ending()).failure
            assert failure is not None
            assert (failure.code, failure.reason) == ("UNEXPECTED", "worker_crashed")
    assert caplog.text.count("closed its input") == 1
    assert "socket.send() raised" not in caplog.text
    assert "pipe closed by peer" not in caplog.text
