"""What every worker of a web service must do, whatever the service: a row of `Described` each.

`class TestContract(ProviderContract): described = Described(...)` in `tests/workers/test_<name>.py` runs it all.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from fakes.upstream.framing import FRAMES
from fakes.upstream.scenario import ENDS, SAYINGS
from fakes.upstream.server import Api, Upstream, running
from support.providers import provider_class
from support.waiting import bounded

from waifu_worker.testing import Answer, Driver, RequestFailed, Running
from waifu_worker.wire import ChatMessage, Chunk, Code, Failed, Params

USER = ChatMessage(role="user", content="Hi")
Outcome = tuple[Code, str | None]


@dataclass(frozen=True, slots=True)
class Described:
    """One provider. `path`: what comes behind the fake's address; `errors`: the outcome of each error by name."""

    provider: str
    api: type[Api]
    key: str
    model: str
    path: str = "/v1"
    errors: Mapping[str, Outcome] = field(default_factory=dict)


def params(model: str, scenario: str = "", **others: object) -> Params:
    """Parameters whose model id asks the fake for a scenario."""
    model_id = f"{model};{scenario}" if scenario else model
    return Params(model_id=model_id, **others)  # type: ignore[arg-type]  # as each test gives them


async def failure(running: Running) -> Failed:
    """How a request fails that must fail."""
    async with bounded():
        with pytest.raises(RequestFailed) as caught:
            await running.answer()
    return caught.value.failed


async def first_chunks(running: Running, count: int) -> list[str]:
    """The first `count` chunks of a stream."""
    chunks: list[str] = []
    async with bounded():
        while len(chunks) < count:
            message = await running.next()
            assert isinstance(message, Chunk)
            chunks.extend(message.texts)
    return chunks


async def ended(upstream: Upstream, number: int) -> str:
    """How an exchange ended, once it has."""
    async with bounded():
        exchange = await upstream.exchange(number)
        await exchange.ended.wait()
    return exchange.end


class ProviderContract:
    """The tests. Exchange 0 is the load's."""

    described: ClassVar[Described]

    @pytest.fixture
    async def upstream(self) -> AsyncIterator[Upstream]:
        async with running(self.described.api()) as upstream:
            yield upstream

    @pytest.fixture
    async def driver(self, upstream: Upstream) -> AsyncIterator[Driver]:
        async with Driver(provider_class(self.described.provider)) as driver, bounded():
            await self.load(driver, upstream.url)
            yield driver

    async def load(self, driver: Driver, url: str, key: str | None = None) -> None:
        await driver.load(api_key=key or self.described.key, options={"base_url": url + self.described.path})

    def generation(self, driver: Driver, scenario: str, *, stream: bool = True, **others: object) -> Running:
        return driver.generation([USER], params(self.described.model, scenario, **others), stream=stream)

    async def answer(self, driver: Driver, scenario: str, *, stream: bool = True, **others: object) -> Answer:
        async with bounded():
            return await self.generation(driver, scenario, stream=stream, **others).answer()

    @pytest.mark.parametrize("frame", FRAMES)
    async def test_the_text_is_the_same_however_it_is_framed(self, driver: Driver, frame: str) -> None:
        for stream in (True, False):
            answer = await self.answer(driver, f"say=unicode;frame={frame}", stream=stream)
            assert answer.text == "".join(SAYINGS["unicode"])
            assert answer.done.finish_reason == "stop"

    @pytest.mark.parametrize("seed", range(5))
    async def test_the_text_is_the_same_wherever_it_is_cut(self, driver: Driver, seed: int) -> None:
        answer = await self.answer(driver, f"say=unicode;frame=random;seed={seed}")
        assert answer.text == "".join(SAYINGS["unicode"])

    async def test_chunks_come_as_the_service_sends_them(self, driver: Driver) -> None:
        assert (await self.answer(driver, "say=words")).chunks == SAYINGS["words"]

    @pytest.mark.parametrize("end", ENDS)
    async def test_any_proper_end_is_enough(self, driver: Driver, end: str) -> None:
        assert (await self.answer(driver, f"end={end}")).text == "".join(SAYINGS["words"])

    @pytest.mark.parametrize("fail", ["no-end", "half-event", "cut", "close"])
    @pytest.mark.parametrize("after", [0, 3])
    async def test_a_stream_without_its_end_is_truncated(self, driver: Driver, fail: str, after: int) -> None:
        running = self.generation(driver, f"fail={fail};after={after}")
        if fail != "cut":  # a reset may overtake what was sent before it
            assert await first_chunks(running, after) == list(SAYINGS["words"][:after])
        failed = await failure(running)
        assert (failed.error, failed.reason) == (Code.UNEXPECTED, "truncated")

    @pytest.mark.parametrize("fail", ["error-event", "error-named", "error-text", "broken-json"])
    @pytest.mark.parametrize("after", [0, 2])
    async def test_an_error_inside_a_stream_ends_it_after_its_text(
        self, driver: Driver, upstream: Upstream, fail: str, after: int
    ) -> None:
        running = self.generation(driver, f"fail={fail};after={after}")
        assert await first_chunks(running, after) == list(SAYINGS["words"][:after])
        failed = await failure(running)
        assert failed.error is Code.UNEXPECTED
        assert failed.reason != "truncated"
        assert len(upstream.exchanges) == 2

    @pytest.mark.parametrize("fail", ["silent", "headers"])
    async def test_an_interrupt_before_the_first_byte_closes_the_connection(
        self, driver: Driver, upstream: Upstream, fail: str
    ) -> None:
        running = self.generation(driver, f"fail={fail}")
        async with bounded():
            await upstream.exchange(1)
        running.cancel()
        assert (await failure(running)).error is Code.INTERRUPT
        assert await ended(upstream, 1) in ("eof", "reset")

    @pytest.mark.parametrize("after", [1, 4])
    @pytest.mark.parametrize("fail", ["stall", "drip"])
    async def test_an_interrupt_in_the_middle_closes_the_connection_and_the_next_request_works(
        self, driver: Driver, upstream: Upstream, fail: str, after: int
    ) -> None:
        running = self.generation(driver, f"fail={fail};after={after}")
        await first_chunks(running, after)
        running.cancel()
        assert (await failure(running)).error is Code.INTERRUPT
        assert await ended(upstream, 1) in ("eof", "reset")
        assert (await self.answer(driver, "")).text == "".join(SAYINGS["words"])

    async def test_a_stop_in_the_text_ends_the_connection(self, driver: Driver, upstream: Upstream) -> None:
        answer = await self.answer(driver, "fail=stall;after=4", stops=("no", "never", "not", "nor", "ow"))
        assert answer.text == "Hello there, h"
        assert answer.done.finish_reason == "stop"
        assert await ended(upstream, 1) in ("eof", "reset")

    async def test_keep_alives_are_no_text(self, driver: Driver) -> None:
        assert (await self.answer(driver, "waits=20")).chunks == SAYINGS["words"]

    async def test_an_answer_without_text_is_a_success(self, driver: Driver) -> None:
        answer = await self.answer(driver, "say=empty")
        assert (answer.chunks, answer.done.finish_reason) == ((), "stop")

    async def test_the_name_prefix_is_taken_away(self, driver: Driver) -> None:
        assert (await self.answer(driver, "say=name")).text == "hi"

    async def test_line_break_stops_let_an_answer_begin_with_line_breaks(self, driver: Driver) -> None:
        assert (await self.answer(driver, "say=newlines", stops=("\r", "\n"))).text == "one"

    @pytest.mark.parametrize("fail", ["endless-event", "endless-error"])
    async def test_what_never_ends_is_cut_off(self, driver: Driver, upstream: Upstream, fail: str) -> None:
        assert (await failure(self.generation(driver, f"fail={fail}"))).error is Code.UNEXPECTED
        assert await ended(upstream, 1) in ("eof", "reset")

    async def test_a_whole_answer_to_a_request_for_a_stream_is_taken(self, driver: Driver) -> None:
        assert (await self.answer(driver, "say=unicode;fail=plain-json")).text == "".join(SAYINGS["unicode"])

    async def test_every_error_has_its_code_and_reason(self, driver: Driver, upstream: Upstream) -> None:
        found = {}
        for name in self.described.errors:
            failed = await failure(self.generation(driver, f"error={name}"))
            found[name] = (failed.error, failed.reason)
            assert failed.message
        assert found == dict(self.described.errors)
        assert len(upstream.exchanges) == 1 + len(self.described.errors), "nothing is tried twice"

    @pytest.mark.parametrize("stream", [True, False])
    async def test_requests_share_the_connection_that_the_load_opened(
        self, driver: Driver, upstream: Upstream, stream: bool
    ) -> None:
        for _ in range(3):
            await self.answer(driver, "", stream=stream)
        assert len(upstream.exchanges) == 4
        assert upstream.accepted == 1

    async def test_a_request_that_is_refused_leaves_its_connection_to_the_next(
        self, driver: Driver, upstream: Upstream
    ) -> None:
        for name in self.described.errors:
            await failure(self.generation(driver, f"error={name}"))
        await self.answer(driver, "")
        assert upstream.accepted == 1

    async def test_fifty_streams_at_once_keep_apart(self, driver: Driver) -> None:
        def said(number: int) -> str:
            return f"stream {number} " * (20 + number)

        async with bounded():
            answers = await asyncio.gather(
                *(
                    driver.generate(
                        [ChatMessage(role="user", content=said(number))],
                        params(self.described.model, f"say=echo;frame=random;seed={number}"),
                    )
                    for number in range(50)
                )
            )
        assert [answer.text for answer in answers] == [said(number) for number in range(50)]

    async def test_a_load_is_one_request_that_costs_nothing(self, driver: Driver, upstream: Upstream) -> None:
        assert [exchange.method for exchange in upstream.exchanges] == ["GET"]

    async def test_a_wrong_key_is_told_by_one_request(self, upstream: Upstream) -> None:
        key = "sk-wrong-0123456789abcdefghijklmn"
        async with Driver(provider_class(self.described.provider)) as driver, bounded():
            with pytest.raises(RequestFailed) as caught:
                await self.load(driver, upstream.url, key)
        assert caught.value.failed.error is Code.AUTHORIZATION
        assert key[-4:] not in caught.value.failed.message
        assert [exchange.method for exchange in upstream.exchanges] == ["GET"]

    async def test_a_network_that_is_down_says_nothing_about_the_key(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with Driver(provider_class(self.described.provider)) as driver, bounded():
            with pytest.raises(RequestFailed) as caught:
                await self.load(driver, url)
        failed = caught.value.failed
        assert (failed.error, failed.reason) == (Code.UNEXPECTED, "provider_down")
        assert url.removeprefix("http://") in failed.message

    async def test_a_service_that_goes_away_after_the_load_is_told_from_a_wrong_request(self) -> None:
        async with Driver(provider_class(self.described.provider)) as driver:
            async with running(self.described.api()) as upstream, bounded():
                await self.load(driver, upstream.url)
            failed = await failure(self.generation(driver, ""))
        assert (failed.error, failed.reason) == (Code.UNEXPECTED, "provider_down")

    async def test_a_load_can_be_cancelled_while_the_service_is_silent(self, upstream: Upstream) -> None:
        async with Driver(provider_class(self.described.provider)) as driver:
            loading = asyncio.create_task(self.load(driver, upstream.url + "/silent"))
            async with bounded():
                await upstream.exchange(0)
            driver.unload()
            with pytest.raises(RequestFailed) as caught:
                async with bounded():
                    await loading
        assert caught.value.failed.error is Code.INTERRUPT
        assert await ended(upstream, 0) in ("eof", "reset")

    async def test_the_key_is_in_no_message_and_no_log(
        self, driver: Driver, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        caplog.set_level(logging.DEBUG)
        asyncio.get_running_loop().set_debug(True)
        messages = []
        for scenario in ("error=echo-key", "fail=cut", "fail=broken-json"):
            messages.append((await failure(self.generation(driver, scenario))).message)
        out, err = capfd.readouterr()
        for text in (*messages, caplog.text, out, err):
            assert self.described.key not in text
            assert self.described.key[-8:] not in text
