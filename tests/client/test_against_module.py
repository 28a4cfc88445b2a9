"""The Python clients against the real module and its `echo` worker."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from support.running_module import running_module
from support.waiting import bounded

import waifu_client


@pytest.fixture(autouse=True)
def echo(installed: Callable[..., None]) -> None:
    installed("echo")


async def test_the_first_steps_of_the_readme_work(home: Path) -> None:
    async with running_module(home) as module, bounded(), waifu_client.connect(module.url) as llm:
        await llm.load("echo")
        stream = llm.stream([{"role": "user", "content": "one two three"}])
        assert "".join([piece async for piece in stream]) == "one two three"
        assert stream.finish_reason == "stop"
        assert (await llm.generate("one two three")).text == "one two three"
        assert (await llm.models()).ids[0] == "echo"
        assert "echo" in (await llm.providers()).names


async def test_a_load_tells_its_steps(home: Path) -> None:
    steps: list[str] = []
    async with running_module(home) as module, bounded(), waifu_client.connect(module.url) as llm:
        await llm.load("echo", on_progress=lambda step: steps.append(step.stage))
    assert "worker" in steps


async def test_leaving_a_stream_stops_it_in_the_worker(home: Path) -> None:
    async with running_module(home) as module, bounded(), waifu_client.connect(module.url) as llm:
        await llm.load("echo")
        async for _ in llm.stream("word " * 10_000, model_id="echo-slow", timeout_ms=None):
            break
        stats = await llm.stats()
        assert stats.counters["echo"].requests == {"INTERRUPT": 1}
        assert (await llm.generate("still there")).text == "still there"


async def test_cancelling_a_generation_stops_it_in_the_worker(home: Path) -> None:
    async with running_module(home) as module, bounded(), waifu_client.connect(module.url) as llm:
        await llm.load("echo")
        slow = asyncio.create_task(llm.generate("word " * 10_000, model_id="echo-slow"))
        while not any(worker.running for worker in (await llm.stats()).workers):
            pass
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert (await llm.stats()).counters["echo"].requests == {"INTERRUPT": 1}


async def test_a_hundred_streams_at_once_do_not_mix(home: Path) -> None:
    async with running_module(home) as module, bounded(), waifu_client.connect(module.url) as llm:
        await llm.load("echo")

        async def read(text: str) -> str:
            return "".join([piece async for piece in llm.stream(text)])

        texts = [f"{n} says {n} times {n}" for n in range(100)]
        assert await asyncio.gather(*map(read, texts)) == texts


async def test_errors_carry_the_modules_codes(home: Path) -> None:
    async with running_module(home) as module, bounded(), waifu_client.connect(module.url) as llm:
        with pytest.raises(waifu_client.InvalidProvider, match="echo"):
            await llm.load("no_such_provider")
        with pytest.raises(waifu_client.InvalidProvider):
            await llm.generate("Hi")
        await llm.load("echo")
        with pytest.raises(waifu_client.InvalidModel):
            await llm.generate("Hi", model_id="no-such-model")
        with pytest.raises(waifu_client.InvalidPrompt):
            await llm.generate([], model_id="echo")
        with pytest.raises(waifu_client.InvalidProvider):
            await llm.unload("no_such_provider")
        with pytest.raises(waifu_client.TimedOut):
            await llm.generate("word " * 100, model_id="echo-slow", timeout_ms=1)


async def test_a_generation_after_an_unload_starts_the_worker_again(home: Path) -> None:
    async with running_module(home) as module, bounded(), waifu_client.connect(module.url) as llm:
        await llm.load("echo")
        await llm.unload("echo")
        assert (await llm.generate("back again", model_id="echo")).text == "back again"


async def test_a_module_that_stops_interrupts_what_runs_and_then_the_connection_is_lost(home: Path) -> None:
    async with running_module(home) as module, bounded(), waifu_client.connect(module.url) as llm:
        await llm.load("echo")
        pieces = aiter(llm.stream("word " * 10_000, model_id="echo-slow"))
        await anext(pieces)
        stopping = asyncio.create_task(module.stop())
        with pytest.raises(waifu_client.Interrupted) as caught:
            async for _ in pieces:
                pass
        assert caught.value.reason == "closing"
        assert await stopping == 0
        with pytest.raises(waifu_client.ConnectionLost):
            await llm.generate("Hi", model_id="echo")


async def test_a_client_can_stop_the_module(home: Path) -> None:
    async with running_module(home) as module, bounded(), waifu_client.connect(module.url) as llm:
        await llm.close_module()
        assert await module.ended() == 0


async def test_the_blocking_client_does_the_same(home: Path) -> None:
    def talk(url: str) -> tuple[str, str]:
        with waifu_client.connect_blocking(url) as llm:
            llm.load("echo")
            for _ in llm.stream("word " * 10_000, model_id="echo-slow"):
                break
            assert llm.stats().counters["echo"].requests == {"INTERRUPT": 1}
            return "".join(llm.stream("one two")), llm.generate("three").text

    async with running_module(home) as module, bounded():
        assert await asyncio.to_thread(talk, module.url) == ("one two", "three")
