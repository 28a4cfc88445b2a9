"""openai through the whole module: its own environment, its own process, a client over the socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fakes.upstream.framing import FRAMES
from fakes.upstream.openai_api import GOOD_KEY, MODELS
from fakes.upstream.scenario import SAYINGS
from fakes.upstream.server import Upstream
from support.contract import ended
from support.running_module import running_module
from support.waiting import bounded

from waifu_client import Client, connect
from waifu_client.errors import AuthorizationError, Interrupted, LLMError, TimedOut

UNICODE = "".join(SAYINGS["unicode"])


@pytest.fixture
async def llm(home: Path, installed: Callable[..., None], openai_upstream: Upstream) -> AsyncIterator[Client]:
    installed("openai")
    async with running_module(home) as url, connect(url) as llm:
        async with bounded():
            await llm.load("openai", api_key=GOOD_KEY, base_url=openai_upstream.url + "/v1")
        yield llm


async def test_a_stream_and_a_whole_answer_are_the_same_text_however_it_is_framed(llm: Client) -> None:
    async with bounded():
        assert (await llm.models()).ids == tuple(MODELS)
        for frame in FRAMES:
            model = f"gpt-4o;say=unicode;frame={frame}"
            whole = await llm.generate("Hi", model_id=model)
            assert "".join([chunk async for chunk in llm.stream("Hi", model_id=model)]) == whole.text == UNICODE
            assert whole.usage is not None
            assert whole.finish_reason == "stop"


async def test_an_interrupt_reaches_the_service(llm: Client, openai_upstream: Upstream) -> None:
    async with bounded():
        stream = llm.stream("Hi", model_id="gpt-4o;fail=stall")
        pieces = aiter(stream)
        assert await anext(pieces) == SAYINGS["words"][0]
        assert await llm.interrupt() == [stream.request_id]
        with pytest.raises(Interrupted):
            _ = [chunk async for chunk in pieces]
    assert await ended(openai_upstream, 1) in ("eof", "reset")
    async with bounded():
        assert (await llm.generate("Hi", model_id="gpt-4o")).text == "".join(SAYINGS["words"])


async def test_a_timeout_reaches_the_service_and_keep_alives_do_not_put_it_off(
    llm: Client, openai_upstream: Upstream
) -> None:
    with pytest.raises(TimedOut):
        async with bounded():
            await llm.generate("Hi", model_id="gpt-4o;waits=1000000", timeout_ms=200)
    assert await ended(openai_upstream, 1) in ("eof", "reset")


async def test_a_key_leaves_no_trace_in_the_home_of_the_module(
    llm: Client, home: Path, openai_upstream: Upstream
) -> None:
    messages = []
    for scenario in ("error=echo-key", "fail=broken-json", "fail=cut"):
        with pytest.raises(LLMError) as caught:
            async with bounded():
                await llm.generate("Hi", model_id=f"gpt-4o;{scenario}")
        messages.append(str(caught.value))
    with pytest.raises(AuthorizationError) as refused:
        async with bounded():
            await llm.load("openai", api_key="sk-wrong-0123456789abcdef", base_url=openai_upstream.url + "/v1")
    messages.append(str(refused.value))
    written = await asyncio.to_thread(_written, home)
    for text in (*messages, *written):
        for secret in (GOOD_KEY, GOOD_KEY[-8:], "0123456789abcdef"):
            assert secret not in text


def _written(home: Path) -> list[str]:
    """What the module itself wrote; the environments are only linked into the home."""
    files = [path for folder in ("logs", "run", "data") for path in (home / folder).rglob("*") if path.is_file()]
    assert files
    return [path.read_text("utf-8", "replace") for path in files]
