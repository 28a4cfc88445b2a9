"""P2, W1, W7: a worker that dies at any byte of its stream: what was whole is heard, one end, and the next works."""

import asyncio
import random
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Final

import psutil
import pytest
from support.fake_process import FakeProcess
from support.pool_bench import Bench, RecordingSink, job
from support.puppet import Puppet, puppet
from support.raw_pool import RawPool, raw_pool
from support.raw_worker import answer, text_of
from support.waiting import bounded, until

from waifu_client import connect
from waifu_client.errors import LLMError
from waifu_llm.supervision.jobs import Loaded
from waifu_worker import wire

CHUNKS: Final = 6
LONGEST: Final = len(answer(10**6, CHUNKS))
KILLS: Final = 25


async def kill_at(raw: RawPool, loaded: Loaded, hand: Puppet, cut: int) -> RecordingSink:
    """A worker that writes so many bytes of an answer and is killed from outside then."""
    sink = raw.generate(loaded, chunks=CHUNKS, cut=cut, at=hand.address)
    strand = await hand.strand()
    request_id = strand.hello["id"]
    assert isinstance(request_id, int)
    text, whole = text_of(request_id, CHUNKS, cut)
    psutil.Process(strand.pid).kill()
    ending = await sink.ending()
    # Where the answer was whole already, the next one is not to be asked of a worker that is about to be gone.
    await until(lambda: [worker.pid for worker in raw.pool.workers()] == [None], "its death has been noticed")
    assert "".join(sink.text) == text
    if whole:
        assert ending.failure is None
    else:
        assert ending.failure is not None
        assert (ending.failure.code, ending.failure.reason) == ("UNEXPECTED", "worker_crashed")
        assert "SIGKILL" in ending.failure.message
    return sink


async def rounds(folder: Path, seed: int, kills: int) -> None:
    chance = random.Random(seed)
    async with raw_pool(folder, crashes=10**6) as raw, puppet() as hand:
        loaded = await raw.load()
        sinks = [await kill_at(raw, loaded, hand, chance.randint(0, LONGEST)) for _ in range(kills)]
        last = raw.generate(loaded, chunks=CHUNKS)
        assert (await last.ending()).failure is None
        assert "".join(last.text) == "".join(f"{number} " for number in range(CHUNKS))
        assert all(len(sink.endings) == 1 for sink in sinks)


@pytest.mark.parametrize("seed", range(8))
async def test_p2_a_worker_killed_at_a_random_byte_ends_its_request_once_and_the_next_one_is_served(
    tmp_path: Path, seed: int
) -> None:
    await rounds(tmp_path, seed, KILLS)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(8, 108))
async def test_p2_five_thousand_times(tmp_path: Path, seed: int) -> None:
    await rounds(tmp_path, seed, 2 * KILLS)


@pytest.mark.parametrize("chunks", [0, 1, 50])
async def test_w1_killed_after_some_chunks_it_loses_none_and_the_next_request_starts_it_again(
    url: str, chunks: int
) -> None:
    async with puppet() as hand, connect(url) as llm, connect(url) as other:
        await llm.load("fake", puppet=hand.address)
        await other.load("fake", base_url="elsewhere", puppet=hand.address)
        neighbour = asyncio.ensure_future(other.generate("x", model_id="puppet"))
        second = await hand.strand()
        heard: list[str] = []
        reading = asyncio.ensure_future(_read(llm.stream("x", model_id="puppet"), heard))
        strand = await hand.strand()
        for number in range(chunks):
            await strand.chunk(f"{number} ")
        await until(lambda: "".join(heard) == "".join(f"{n} " for n in range(chunks)), "all chunks have arrived")
        psutil.Process(strand.pid).kill()
        with pytest.raises(LLMError) as caught:
            await reading
        assert (caught.value.code, caught.value.reason) == ("UNEXPECTED", "worker_crashed")
        assert "".join(heard) == "".join(f"{n} " for n in range(chunks))
        async with bounded():
            assert (await llm.generate("hello", model_id="echo")).text == "hello"
        await second.chunk("alive")
        await second.finish()
        async with bounded():
            assert (await neighbour).text == "alive"


async def _read(stream: AsyncIterable[str], heard: list[str]) -> None:
    async with bounded():
        async for chunk in stream:
            heard.append(chunk)


async def test_w7_a_frame_that_is_cut_at_any_byte_is_dropped_with_its_worker(bench: Bench) -> None:
    load, process = await _loaded(bench)
    frames = answer(1, 2)
    for cut in range(len(frames)):
        sink = RecordingSink()
        bench.pool.generate(load, job(), "c", sink)
        if process.ended:
            process = await bench.spawn.loaded()
        message = await process.next_sent(wire.Generate)
        process.say(wire.Chunk(id=message.id, texts=("first ",)))
        process.write_raw(answer(message.id, 2)[:cut])
        text, whole = text_of(message.id, 2, cut)
        process.exit(1)
        ending = await sink.ending()
        assert "".join(sink.text) == f"first {text}"
        assert (ending.failure is None) is whole


async def _loaded(bench: Bench) -> tuple[Loaded, FakeProcess]:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "c"))
    process = await bench.spawn.loaded()
    async with bounded():
        return await task, process
