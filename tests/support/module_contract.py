"""What every provider of a web service must do through the whole module: its environment, its process, a client.

`class TestInTheModule(ModuleContract): described = Described(...)` in `tests/workers/test_<name>_in_the_module.py`.
"""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ClassVar

import pytest
from fakes.upstream.framing import FRAMES
from fakes.upstream.scenario import SAYINGS
from fakes.upstream.server import Upstream, running
from support.contract import Described, ended
from support.running_module import running_module
from support.waiting import bounded

from waifu_client import Client, connect
from waifu_client.errors import AuthorizationError, Interrupted, InvalidModel, LLMError, TimedOut, UnexpectedError

WORDS = "".join(SAYINGS["words"])
UNICODE = "".join(SAYINGS["unicode"])
WRONG_KEY = "sk-wrong-0123456789abcdef"


class ModuleContract:
    """The tests. A load by `llm` has been made when they begin."""

    described: ClassVar[Described]
    models: ClassVar[tuple[str, ...]]

    @pytest.fixture
    async def upstream(self) -> AsyncIterator[Upstream]:
        async with running(self.described.api()) as upstream:
            yield upstream

    @pytest.fixture
    async def llm(self, home: Path, installed: Callable[..., None], upstream: Upstream) -> AsyncIterator[Client]:
        installed(self.described.provider)
        async with running_module(home) as module, connect(module.url) as llm:
            await self.load(llm, upstream.url)
            yield llm

    async def load(self, llm: Client, url: str, key: str | None = None, timeout_ms: int | None = None) -> None:
        base_url = url + self.described.path
        async with bounded():
            await llm.load(
                self.described.provider, api_key=key or self.described.key, base_url=base_url, timeout_ms=timeout_ms
            )

    def model(self, scenario: str = "") -> str:
        return f"{self.described.model};{scenario}" if scenario else self.described.model

    async def test_a_stream_and_a_whole_answer_are_the_same_text_however_it_is_framed(self, llm: Client) -> None:
        async with bounded():
            assert (await llm.models()).ids == self.models
            for frame in FRAMES:
                model = self.model(f"say=unicode;frame={frame}")
                whole = await llm.generate("Hi", model_id=model)
                assert "".join([chunk async for chunk in llm.stream("Hi", model_id=model)]) == whole.text == UNICODE
                assert whole.finish_reason == "stop"

    @pytest.mark.parametrize("after", [1, 4])
    async def test_an_interrupt_in_the_middle_reaches_the_service(
        self, llm: Client, upstream: Upstream, after: int, record_testsuite_property: Callable[[str, object], None]
    ) -> None:
        number = len(upstream.exchanges)
        async with bounded():
            stream = llm.stream("Hi", model_id=self.model(f"fail=stall;after={after}"))
            pieces = aiter(stream)
            assert [await anext(pieces) for _ in range(after)] == list(SAYINGS["words"][:after])
            assert upstream.exchanges[number].end == ""
            start = time.monotonic()
            assert await llm.interrupt() == [stream.request_id]
            assert await ended(upstream, number) in ("eof", "reset")
            record_testsuite_property(
                f"{self.described.provider}, chunk {after}: interrupt_ms", round((time.monotonic() - start) * 1000, 1)
            )
            with pytest.raises(Interrupted):
                _ = [chunk async for chunk in pieces]
            assert (await llm.generate("Hi", model_id=self.model())).text == WORDS

    @pytest.mark.parametrize("fail", ["silent", "headers"])
    async def test_an_interrupt_before_the_first_byte_reaches_the_service(
        self, llm: Client, upstream: Upstream, fail: str
    ) -> None:
        number = len(upstream.exchanges)
        running = asyncio.ensure_future(llm.generate("Hi", model_id=self.model(f"fail={fail}")))
        async with bounded():
            await upstream.exchange(number)
            await llm.interrupt()
            with pytest.raises(Interrupted):
                await running
        assert await ended(upstream, number) in ("eof", "reset")

    @pytest.mark.parametrize("scenario", ["fail=silent", "fail=headers", "fail=stall;after=2", "waits=1000000"])
    async def test_a_timeout_reaches_the_service_wherever_it_hangs(
        self, llm: Client, upstream: Upstream, scenario: str
    ) -> None:
        number = len(upstream.exchanges)
        with pytest.raises(TimedOut):
            async with bounded():
                await llm.generate("Hi", model_id=self.model(scenario), timeout_ms=200)
        assert await ended(upstream, number) in ("eof", "reset")
        async with bounded():
            assert (await llm.generate("Hi", model_id=self.model())).text == WORDS

    async def test_a_timeout_of_a_stream_begins_again_with_each_piece_of_text(self, llm: Client) -> None:
        heard: list[str] = []
        with pytest.raises(TimedOut):
            async with bounded():
                async for chunk in llm.stream("Hi", model_id=self.model("fail=stall;after=3"), timeout_ms=300):
                    heard.append(chunk)
        assert heard == list(SAYINGS["words"][:3])

    async def test_a_service_that_takes_no_connection_ends_a_load_in_its_time(self, llm: Client) -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            waiting = [socket.socket() for _ in range(4)]
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            with pytest.raises(TimedOut):
                await self.load(llm, f"http://127.0.0.1:{full.getsockname()[1]}", timeout_ms=300)
            for one in waiting:
                one.close()

    async def test_fifty_streams_at_once_keep_apart(self, llm: Client) -> None:
        async def said(number: int) -> str:
            model = self.model(f"say=echo;frame=random;seed={number}")
            return "".join([chunk async for chunk in llm.stream(f"{number} " * 30, model_id=model)])

        async with bounded():
            texts = await asyncio.gather(*(said(number) for number in range(50)))
        assert texts == [f"{number} " * 30 for number in range(50)]

    async def test_an_unknown_model_is_told_and_the_next_one_answers(self, llm: Client) -> None:
        async with bounded():
            with pytest.raises(InvalidModel, match="no-such-model"):
                await llm.generate("Hi", model_id="no-such-model")
            assert (await llm.generate("Hi", model_id=self.model())).text == WORDS

    @pytest.mark.parametrize("fail", ["no-end", "cut"])
    async def test_an_answer_without_its_end_is_truncated(self, llm: Client, fail: str) -> None:
        with pytest.raises(UnexpectedError) as caught:
            async with bounded():
                await llm.generate("Hi", model_id=self.model(f"fail={fail}"))
        assert caught.value.reason == "truncated"

    async def test_a_network_that_is_down_says_nothing_about_the_key(self, llm: Client) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UnexpectedError) as caught:
            await self.load(llm, url)
        assert caught.value.reason == "provider_down"

    async def test_a_key_leaves_no_trace_in_the_home_of_the_module(
        self, llm: Client, home: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        messages = []
        for scenario in ("error=echo-key", "fail=broken-json", "fail=cut"):
            with pytest.raises(LLMError) as caught:
                async with bounded():
                    await llm.generate("Hi", model_id=self.model(scenario))
            messages.append(str(caught.value))
        before = len(upstream.exchanges)
        with pytest.raises(AuthorizationError) as refused:
            await self.load(llm, upstream.url, WRONG_KEY)
        assert [exchange.method for exchange in upstream.exchanges[before:]] == ["GET"], "one request, and a free one"
        messages.append(str(refused.value))
        written = await asyncio.to_thread(_written, home)
        key = self.described.key
        for text in (*messages, *written, caplog.text):
            for secret in (key, key[-8:], WRONG_KEY, WRONG_KEY[-8:]):
                assert secret not in text


def _written(home: Path) -> list[str]:
    """What the module itself wrote; the environments are only linked into the home."""
    files = [path for path in home.rglob("*") if path.is_file() and "envs" not in path.relative_to(home).parts]
    assert files
    return [path.read_text("utf-8", "replace") for path in files]
