"""Signs of life, and model lists that grow old."""

import asyncio

import pytest
from support.fake_process import FakeProcess
from support.pool_bench import Bench, RecordingSink, job
from support.waiting import bounded

from waifu_llm.supervision import context, life
from waifu_llm.supervision.jobs import Loaded
from waifu_worker import wire


@pytest.fixture
def quick_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "WATCH_INTERVAL_S", 0.01)
    monkeypatch.setattr(life, "SILENCE_S", 0.05)


async def loaded(bench: Bench) -> tuple[Loaded, FakeProcess]:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "c"))
    process = await bench.spawn.loaded("old")
    async with bounded():
        return await task, process


@pytest.mark.usefixtures("quick_watch")
async def test_a_worker_without_a_sign_of_life_is_killed_and_its_requests_end(bench: Bench) -> None:
    load, process = await loaded(bench)
    sink = RecordingSink()
    bench.pool.generate(load, job(), "c", sink)
    failure = (await sink.ending()).failure
    assert failure is not None
    assert "no sign of life" in failure.message
    assert process.kills == 1


@pytest.mark.usefixtures("quick_watch")
async def test_a_load_may_be_silent_and_the_silence_counts_from_its_end(bench: Bench) -> None:
    _, process = await loaded(bench)
    task = asyncio.ensure_future(bench.pool.load(bench.fields(num_ctx=5), "d"))
    message = await process.next_sent(wire.Load)
    looks = asyncio.Event()
    asyncio.get_running_loop().call_later(0.2, looks.set)
    await looks.wait()
    assert process.kills == 0
    process.say(wire.Done(id=message.id, models=()))
    async with bounded():
        await task
    await process.end()


@pytest.mark.usefixtures("quick_watch")
async def test_a_beat_is_a_sign_of_life(bench: Bench) -> None:
    _, process = await loaded(bench)
    for _ in range(20):
        process.say(wire.Beat())
        beat = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, beat.set)
        await beat.wait()
    assert process.kills == 0


async def test_an_old_model_list_is_read_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    load, process = await loaded(bench)
    monkeypatch.setattr(context, "MODELS_FRESH_S", -1.0)
    task = asyncio.ensure_future(bench.pool.models(load))
    message = await process.next_sent(wire.Models)
    process.say(wire.Done(id=message.id, models=(wire.ModelInfo(id="new"),), warning="short"))
    async with bounded():
        listed = await task
    assert ([model.id for model in listed.models], listed.warning) == (["new"], "short")


async def test_a_list_that_does_not_come_in_time_or_fails_leaves_the_old_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, process = await loaded(bench)
    monkeypatch.setattr(context, "MODELS_FRESH_S", -1.0)
    monkeypatch.setattr(context, "MODELS_WAIT_S", 0.01)
    async with bounded():
        listed = await bench.pool.models(load)
        again = await bench.pool.models(load)
    assert [model.id for model in listed.models] == ["old"]
    assert again == listed
    message = await process.next_sent(wire.Models)
    assert process.nothing_sent(), "asked once, however many wait"
    process.say(wire.Failed(id=message.id, error=wire.Code.UNEXPECTED, message="down"))
    async with bounded():
        assert await bench.pool.models(load) == listed


async def test_the_list_of_a_stopped_worker_is_the_last_one_known(bench: Bench) -> None:
    load, _ = await loaded(bench)
    async with bounded():
        await bench.pool.unload("fake")
        listed = await bench.pool.models(load)
    assert [model.id for model in listed.models] == ["old"]
