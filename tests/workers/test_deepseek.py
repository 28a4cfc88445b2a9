"""The worker `deepseek`, driven under the runtime's rules against a fake DeepSeek."""

from collections.abc import AsyncIterator

import pytest
from fakes.upstream.deepseek_api import GOOD_KEY, DeepSeek
from fakes.upstream.http1 import Exchange
from fakes.upstream.server import Upstream, running
from support.contract import USER, Described, ProviderContract, failure
from support.providers import WORKERS, provider_class
from support.waiting import bounded

from waifu_llm.catalog import KeyNeed, read_manifest
from waifu_worker.testing import Answer, Driver
from waifu_worker.wire import ChatMessage, Code, Params, Usage

MODEL = "deepseek-flash"
WORDS = "Hello there, how are you?"
ERRORS = {
    "format": (Code.UNEXPECTED, None),
    "context": (Code.INVALID_PROMPT, None),
    "risk": (Code.INVALID_PROMPT, "refused"),
    "payment": (Code.AUTHORIZATION, "quota"),
    "unprocessable": (Code.INVALID_PROMPT, None),
    "rate": (Code.UNEXPECTED, "rate_limited"),
    "internal": (Code.UNEXPECTED, "provider_down"),
    "overloaded": (Code.UNEXPECTED, "provider_down"),
    "gateway-timeout": (Code.TIMEOUT, "provider_timeout"),
    "edge-text": (Code.UNEXPECTED, "provider_down"),
}


class TestContract(ProviderContract):
    described = Described(provider="deepseek", api=DeepSeek, key=GOOD_KEY, model=MODEL, path="", errors=ERRORS)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running(DeepSeek()) as upstream:
        yield upstream


async def load(driver: Driver, url: str, *, thinking: bool = False) -> None:
    async with bounded():
        await driver.load(api_key=GOOD_KEY, options={"base_url": url, "thinking": thinking})


@pytest.fixture
async def driver(upstream: Upstream) -> AsyncIterator[Driver]:
    async with Driver(provider_class("deepseek")) as driver:
        await load(driver, upstream.url)
        yield driver


def body(exchange: Exchange) -> dict[str, object]:
    value = exchange.json()
    assert isinstance(value, dict)
    return value


async def ask(driver: Driver, model: str, *messages: ChatMessage, **others: object) -> Answer:
    async with bounded():
        return await driver.generate(messages or [USER], Params(model_id=model, **others))  # type: ignore[arg-type]


async def test_models_do_not_think_unless_asked_to_and_the_parameters_reach_the_service(
    driver: Driver, upstream: Upstream
) -> None:
    messages = [
        ChatMessage(role="user", content="Hi", name="dev"),
        ChatMessage(role="user", content="Ho", name="a b"),
        ChatMessage(role="function", content="22 C", name="weather"),
    ]
    answer = await ask(
        driver, MODEL, *messages, temperature=0.5, max_output_length=33, stops=tuple("0123456789bcdfgijk"), top_k=3
    )
    assert body(upstream.exchanges[1]) == {
        "model": MODEL,
        "messages": [
            {"role": "user", "content": "Hi", "name": "dev"},
            {"role": "user", "content": "a b: Ho"},
            {"role": "user", "content": "weather: 22 C"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "thinking": {"type": "disabled"},
        "temperature": 0.5,
        "max_tokens": 33,
        "stop": list("0123456789bcdfgi"),
    }
    assert answer.done.ignored == ("top_k",)
    assert answer.done.usage == Usage(prompt_tokens=9, completion_tokens=7, total_tokens=16)


async def test_a_load_that_wants_it_lets_the_model_think_and_names_what_then_does_nothing(upstream: Upstream) -> None:
    async with Driver(provider_class("deepseek")) as driver:
        await load(driver, upstream.url, thinking=True)
        answer = await ask(driver, MODEL, temperature=0.5, presence_penalty=0.5, top_p=0.5)
    sent = body(upstream.exchanges[1])
    assert sent["thinking"] == {"type": "enabled"}
    assert not {"temperature", "presence_penalty", "top_p"} & set(sent)
    assert set(answer.done.ignored) == {"temperature", "presence_penalty", "top_p"}
    assert answer.text == WORDS, "what it thinks is no part of the answer"


async def test_an_unknown_model_is_told_by_the_words_of_the_service(driver: Driver) -> None:
    failed = await failure(driver.generation([USER], Params(model_id="deepseek-chat")))
    assert (failed.error, failed.http_status) == (Code.INVALID_MODEL, 400)
    assert "deepseek-chat" in failed.message


async def test_too_long_an_output_is_left_out_once_and_tried_again_the_next_time(
    driver: Driver, upstream: Upstream
) -> None:
    assert (await ask(driver, MODEL, max_output_length=100_000)).done.ignored == ("max_output_length",)
    assert (await ask(driver, MODEL, max_output_length=50)).done.ignored == ()
    assert [body(exchange).get("max_tokens") for exchange in upstream.exchanges[1:]] == [100_000, None, 50]


async def test_an_answer_that_the_service_gives_up_is_a_failure(driver: Driver) -> None:
    failed = await failure(driver.generation([USER], Params(model_id=f"{MODEL};reason=insufficient_system_resource")))
    assert (failed.error, failed.reason) == (Code.UNEXPECTED, "provider_down")


def test_the_manifest_names_what_the_provider_reads() -> None:
    declared = read_manifest(WORKERS / "deepseek").declared
    assert (declared.key.need, declared.key.env) == (KeyNeed.REQUIRED, ("DEEPSEEK_API_KEY",))
    assert {name: (it.type, it.default, it.identity) for name, it in declared.options.items()} == {
        "base_url": ("url", "https://api.deepseek.com", True),
        "thinking": ("boolean", False, False),
    }
