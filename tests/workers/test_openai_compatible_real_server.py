"""The worker `openai_compatible` against a server that nobody here wrote: `transformers serve` on tiny models.

It ends its streams without `[DONE]`, and tells errors as `{"detail"}` or in plain text.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from support.contract import failure
from support.hf_local import patient
from support.providers import provider_class
from support.running_module import running_module
from support.tiny_models import PLAIN_SAYS, SAYS
from support.transformers_serve import Server, serving_environment, transformers_serve
from support.waiting import until

from waifu_client import connect
from waifu_client.errors import Interrupted, LLMError
from waifu_worker.testing import Driver, RequestFailed
from waifu_worker.wire import ChatMessage, Chunk, Code, Params

__all__ = ["serving_environment", "transformers_serve"]
pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("transformers_serve")]

USER = ChatMessage(role="user", content="Hi")


@pytest.fixture
async def driver(transformers_serve: Server) -> AsyncIterator[Driver]:
    async with Driver(provider_class("openai_compatible")) as driver, patient():
        await load(driver, transformers_serve.url + "/v1")
        yield driver


async def load(driver: Driver, url: str, preset: str | None = "transformers") -> None:
    async with patient():
        await driver.load(options={"base_url": url, "preset": preset})


def connections(server: Server) -> int:
    """How many clients the server talks to."""
    return sum(found.status == psutil.CONN_ESTABLISHED for found in psutil.Process(server.pid).net_connections("tcp"))


async def test_the_list_is_that_of_the_cache(driver: Driver) -> None:
    async with patient():
        listed = {model.id: model.owner for model in await driver.models()}
    assert listed["tiny/sure"] == "tiny"
    assert {"tiny/endless", "tiny/random", "tiny/plain"} <= set(listed)


async def test_the_text_is_that_of_the_model_streamed_or_whole(driver: Driver) -> None:
    for stream in (True, False):
        async with patient():
            answer = await driver.generate([USER], Params(model_id="tiny/sure"), stream=stream)
        assert answer.text == SAYS
        assert answer.done.finish_reason == "stop"
        assert answer.done.usage is not None
        assert (len(answer.chunks) > 1) == stream


async def test_the_length_and_the_stops_of_the_request_hold(driver: Driver) -> None:
    async with patient():
        short = await driver.generate([USER], Params(model_id="tiny/sure", max_output_length=2))
        stopped = await driver.generate([USER], Params(model_id="tiny/endless", stops=("c ",)))
    assert (short.text, short.done.finish_reason) == ("h", "length"), "é takes two tokens"
    assert stopped.text == "ab"


async def test_raw_text_is_completed(driver: Driver) -> None:
    async with patient():
        answer = await driver.generate("User: hi\nAI:", Params(model_id="tiny/plain", stops=("\n",)))
    assert answer.text.strip() == PLAIN_SAYS


async def test_what_the_server_does_not_know_is_learnt_from_its_own_words(transformers_serve: Server) -> None:
    async with Driver(provider_class("openai_compatible")) as driver, patient():
        await load(driver, transformers_serve.url + "/v1", preset=None)
        answer = await driver.generate([USER], Params(model_id="tiny/sure", top_k=3, min_p=0.1))
    assert answer.text == SAYS
    assert set(answer.done.ignored) == {"top_k", "min_p"}


async def test_an_interrupt_closes_the_connection_and_the_next_request_is_served(
    driver: Driver, transformers_serve: Server
) -> None:
    others = connections(transformers_serve) - 1
    running = driver.generation([USER], Params(model_id="tiny/endless", max_output_length=900_000))
    async with patient():
        assert isinstance(await running.next(), Chunk)
        running.cancel()
        assert (await failure(running)).error is Code.INTERRUPT
        await until(lambda: connections(transformers_serve) <= others, "the server has closed")
        assert (await driver.generate([USER], Params(model_id="tiny/sure"))).text == SAYS


async def test_errors_in_its_own_forms_are_told_in_its_words(driver: Driver, transformers_serve: Server) -> None:
    failed = await failure(driver.generation([USER], Params(model_id="tiny/no-such-model")))
    assert (failed.error, failed.reason, failed.http_status) == (Code.UNEXPECTED, "provider_down", 500)
    assert "Internal Server Error" in failed.message
    async with Driver(provider_class("openai_compatible")) as lost:
        with pytest.raises(RequestFailed) as caught:
            await load(lost, transformers_serve.url)
    assert caught.value.failed.error is Code.UNEXPECTED
    assert "base_url" in caught.value.failed.message


async def test_through_the_whole_module(transformers_serve: Server, home: Path, installed: Callable[..., None]) -> None:
    installed("openai_compatible")
    async with patient(), running_module(home) as module, connect(module.url) as llm:
        await llm.load("openai_compatible", preset="transformers", base_url=transformers_serve.url + "/v1")
        assert "tiny/sure" in (await llm.models()).ids
        assert "".join([chunk async for chunk in llm.stream("Hi", model_id="tiny/sure")]) == SAYS
        with pytest.raises(LLMError):
            await llm.generate("Hi", model_id="tiny/no-such-model")
        stream = llm.stream("Hi", model_id="tiny/endless", max_output_length=900_000)
        pieces = aiter(stream)
        await anext(pieces)
        assert await llm.interrupt() == [stream.request_id]
        with pytest.raises(Interrupted):
            _ = [chunk async for chunk in pieces]
