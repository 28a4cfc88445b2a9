"""The whole module over real worker processes that misbehave: one terminal message each, others undisturbed."""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from support.puppet import liveness, puppet
from support.running_module import marked_children, running_module
from support.waiting import bounded, gone, until

from waifu_client import Client, connect
from waifu_client.errors import Interrupted, LLMError
from waifu_llm.config import WorkerSettings
from waifu_llm.supervision import life


@pytest.fixture
async def url(home: Path, installed: Callable[..., None]) -> AsyncIterator[str]:
    installed("fake")
    async with running_module(home, workers=WorkerSettings(cancel_s=0.2)) as module:
        yield module.url


async def answer(llm: Client, model_id: str, text: str = "hello there") -> str:
    async with bounded():
        return (await llm.generate(text, model_id=model_id)).text


async def failure(llm: Client, model_id: str, text: str = "hello") -> LLMError:
    with pytest.raises(LLMError) as caught:
        await answer(llm, model_id, text)
    return caught.value


@pytest.mark.parametrize("behaviour", ["exit", "kill", "segfault", "half-line"])
async def test_a_worker_that_dies_ends_its_request_and_serves_the_next(url: str, behaviour: str) -> None:
    async with connect(url) as llm:
        await llm.load("fake")
        chunks = [] if behaviour == "half-line" else ["0 ", "1 ", "2 "]
        heard: list[str] = []
        with pytest.raises(LLMError) as caught:
            async for chunk in llm.stream("x", model_id="half-line" if not chunks else f"{behaviour}=3"):
                heard.append(chunk)
        assert heard == chunks
        assert (caught.value.code, caught.value.reason) == ("UNEXPECTED", "worker_crashed")
        assert "fake.log" in caught.value.message
        assert await answer(llm, "echo") == "hello there"


async def test_a_crash_ends_the_requests_of_all_clients_of_that_worker_and_of_no_other(url: str) -> None:
    async with puppet() as hand, connect(url) as one, connect(url) as two, connect(url) as other:
        await one.load("fake", puppet=hand.address)
        await two.load("fake", puppet=hand.address)
        await other.load("fake", base_url="elsewhere", puppet=hand.address)
        tasks = [asyncio.ensure_future(failure(llm, "puppet")) for llm in (one, two)]
        strands = [await hand.strand() for _ in tasks]
        assert strands[0].pid == strands[1].pid
        survivor = asyncio.ensure_future(answer(other, "puppet"))
        strand = await hand.strand()
        psutil.Process(strands[0].pid).kill()
        async with bounded():
            for error in await asyncio.gather(*tasks):
                assert error.reason == "worker_crashed"
        await strand.chunk("alive")
        await strand.finish()
        assert await survivor == "alive"


async def test_an_interrupt_ends_the_generation_at_the_worker(url: str) -> None:
    async with puppet() as hand, connect(url) as llm:
        await llm.load("fake", puppet=hand.address)
        heard: list[str] = []
        stream = llm.stream("x", model_id="puppet")
        reading = asyncio.ensure_future(_read(stream, heard))
        strand = await hand.strand()
        await strand.chunk("one")
        await until(lambda: heard == ["one"], "the first chunk has arrived")
        assert await llm.interrupt() == [stream.request_id]
        await strand.cancelled()
        with pytest.raises(Interrupted):
            await reading
        assert await answer(llm, "echo") == "hello there"


async def _read(stream: AsyncIterable[str], heard: list[str]) -> None:
    async with bounded():
        async for chunk in stream:
            heard.append(chunk)


async def test_a_vanished_client_ends_its_generation_at_the_worker(url: str) -> None:
    async with puppet() as hand:
        async with connect(url) as llm:
            await llm.load("fake", puppet=hand.address)
            task = asyncio.ensure_future(llm.generate("x", model_id="puppet"))
            strand = await hand.strand()
        await strand.cancelled()
        with pytest.raises(LLMError):
            await task


async def test_a_worker_that_ignores_a_cancel_is_killed_and_the_interrupted_client_does_not_wait(url: str) -> None:
    async with connect(url) as llm, connect(url) as neighbour:
        await llm.load("fake")
        await neighbour.load("fake")
        other = asyncio.ensure_future(failure(neighbour, "hang=0"))
        heard: list[str] = []
        reading = asyncio.ensure_future(_read(llm.stream("x", model_id="ignore-cancel=1"), heard))
        await until(lambda: heard == ["0 "], "the first chunk has arrived")
        async with bounded():
            await llm.interrupt()
        with pytest.raises(Interrupted):
            await reading
        async with bounded():
            assert (await other).reason == "worker_crashed"
        assert await answer(llm, "echo") == "hello there"


async def test_a_timeout_ends_the_request_and_the_worker_stays(url: str) -> None:
    async with connect(url) as llm:
        await llm.load("fake")
        before = (await llm.stats()).workers[0].pid
        with pytest.raises(LLMError) as caught:
            await llm.generate("x", model_id="hang=0", timeout_ms=50)
        assert caught.value.code == "TIMEOUT"
        assert await answer(llm, "echo") == "hello there"
        assert (await llm.stats()).workers[0].pid == before


@pytest.mark.parametrize(
    "model_id", ["noise", "garbage=5", "bad-utf8=5", "strangers=5", "two-ends", "flood-stderr=20000000"]
)
async def test_rubbish_on_its_pipes_changes_no_text_and_no_count_of_ends(url: str, model_id: str) -> None:
    expected = {"noise": "hello there", "two-ends": None, "flood-stderr=20000000": "hello there"}
    async with connect(url) as llm:
        await llm.load("fake")
        text = await answer(llm, model_id)
        if expected.get(model_id, "0 1 2 3 4 ") is not None:
            assert text == expected.get(model_id, "0 1 2 3 4 ")
        assert await answer(llm, "echo") == "hello there"


@pytest.mark.parametrize("model_id", ["line=20000000", "endless"])
async def test_a_line_without_an_end_kills_the_worker(url: str, model_id: str) -> None:
    async with connect(url) as llm:
        await llm.load("fake")
        error = await failure(llm, model_id)
        assert error.reason == "worker_crashed"
        assert "over the limit" in error.message


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("exit=3", "exit code 3"), ("os-exit=4", "exit code 4"), ("raise", "Error"), ("segfault", "SIGSEGV"),
        ("missing-module", "ModuleNotFoundError"), ("wrong-magic", "greeted"), ("wrong-wire", "wire version"),
        ("wrong-name", "greeted"), ("say=the-reason,os-exit=1", "the-reason"),
    ],
)  # fmt: skip
async def test_a_worker_that_cannot_start_fails_the_load_with_the_reason(
    url: str, monkeypatch: pytest.MonkeyPatch, start: str, said: str
) -> None:
    monkeypatch.setenv("WAIFU_FAKE_START", start)
    async with connect(url) as llm:
        with pytest.raises(LLMError) as caught:
            await llm.load("fake")
        assert (caught.value.code, caught.value.reason) == ("UNEXPECTED", "start_failed")
        assert said in caught.value.message
        monkeypatch.delenv("WAIFU_FAKE_START")
        await llm.load("fake")
        assert await answer(llm, "echo") == "hello there"


async def test_a_hundred_clients_share_one_worker_and_their_texts_keep_apart(url: str) -> None:
    async with connect(url) as first:
        await first.load("fake")

        async def one(number: int) -> None:
            async with connect(url) as llm:
                await llm.load("fake")
                text = " ".join(f"{number}-{n}" for n in range(20))
                assert await answer(llm, "echo", text) == text

        async with bounded():
            await asyncio.gather(*(one(number) for number in range(100)))
        assert len((await first.stats()).workers) == 1


@pytest.mark.parametrize("flag", ["child", "escaped-child"])
async def test_children_of_a_worker_end_with_it(url: str, monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    async with liveness() as lives, connect(url) as llm:
        monkeypatch.setenv("WAIFU_FAKE_START", f"{flag}={lives.address}")
        await llm.load("fake")
        child = await lives.born()
        await failure(llm, "kill=0")
        await lives.died(child)


async def test_the_module_stops_a_worker_that_ignores_everything(
    home: Path, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("fake")
    monkeypatch.setenv("WAIFU_FAKE_START", "ignore-term")
    async with running_module(home) as module, connect(module.url) as llm:
        await llm.load("fake")
        running = asyncio.ensure_future(failure(llm, "hold=0"))
        await until(lambda: marked_children() != [], "the worker runs")
        (worker,) = marked_children()
        running_since = (await llm.stats()).workers[0]
        assert running_since.pid == worker.pid
    async with bounded():
        error = await running
    assert error.code in {"INTERRUPT", "UNEXPECTED"}
    assert gone(worker.pid)


async def test_a_key_is_in_no_argv_environment_log_or_message(
    home: Path, installed: Callable[..., None], canary: str
) -> None:
    installed("fake")
    async with running_module(home) as module, connect(module.url) as llm:
        await llm.load("fake", api_key=canary)
        messages = [(await failure(llm, model)).message for model in ("leak", "fail=UNEXPECTED", "raise")]
        seen = " ".join(messages)
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                seen += " ".join(child.cmdline()) + " ".join(child.environ().values())
    written = [file for file in files_of(home, ".log", ".json") if file.name != "keys.json"]
    logs = "".join(file.read_text("utf-8") for file in written)
    assert canary not in seen + logs
    assert canary[-8:] not in seen + logs


def files_of(home: Path, *suffixes: str) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and path.suffix in suffixes]


@pytest.mark.parametrize("behaviour", ["stop", "hold"])
async def test_a_worker_that_is_frozen_is_killed_and_the_next_request_works(
    url: str, monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    async with connect(url) as llm:
        with monkeypatch.context() as quick:
            quick.setattr(life, "WATCH_INTERVAL_S", 0.05)
            quick.setattr(life, "SILENCE_S", 0.5)
            await llm.load("fake")
            error = await failure(llm, f"{behaviour}=2")
        assert error.reason == "worker_crashed"
        assert "no sign of life" in error.message
        assert await answer(llm, "echo") == "hello there"
