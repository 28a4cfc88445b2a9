"""The worker `groq`, driven under the runtime's rules against a fake Groq."""

from collections.abc import AsyncIterator

import pytest
from fakes.upstream.groq_api import APART, GOOD_KEY, NO_CHAT, RETIRED, THINKER, Groq
from fakes.upstream.http1 import Exchange
from fakes.upstream.server import Upstream, running
from support.contract import USER, Described, ProviderContract, failure
from support.providers import WORKERS, provider_class
from support.waiting import bounded

from waifu_llm.catalog import KeyNeed, read_manifest
from waifu_worker.testing import Answer, Driver
from waifu_worker.wire import ChatMessage, Code, Done, Params, Usage

MODEL = "llama-3.3-70b-versatile"
WORDS = "Hello there, how are you?"
ERRORS = {
    "rate": (Code.UNEXPECTED, "rate_limited"),
    "too-large": (Code.INVALID_PROMPT, None),
    "context": (Code.INVALID_PROMPT, None),
    "unprocessable": (Code.UNEXPECTED, None),
    "dependency": (Code.UNEXPECTED, None),
    "restricted": (Code.AUTHORIZATION, None),
    "terms": (Code.INVALID_MODEL, None),
    "denied": (Code.AUTHORIZATION, None),
    "edge": (Code.UNEXPECTED, "provider_down"),
    "capacity": (Code.UNEXPECTED, "rate_limited"),
    "cancelled": (Code.UNEXPECTED, "provider_down"),
    "internal": (Code.UNEXPECTED, "provider_down"),
    "bad-gateway": (Code.UNEXPECTED, "provider_down"),
    "unavailable": (Code.UNEXPECTED, "provider_down"),
    "gateway-timeout": (Code.TIMEOUT, "provider_timeout"),
}


class TestContract(ProviderContract):
    described = Described(provider="groq", api=Groq, key=GOOD_KEY, model=MODEL, path="", errors=ERRORS)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running(Groq()) as upstream:
        yield upstream


async def load(driver: Driver, url: str) -> Done:
    async with bounded():
        return await driver.load(api_key=GOOD_KEY, options={"base_url": url})


@pytest.fixture
async def driver(upstream: Upstream) -> AsyncIterator[Driver]:
    async with Driver(provider_class("groq")) as driver:
        await load(driver, upstream.url)
        yield driver


def body(exchange: Exchange) -> dict[str, object]:
    value = exchange.json()
    assert isinstance(value, dict)
    return value


async def ask(driver: Driver, model: str, *messages: ChatMessage, **others: object) -> Answer:
    async with bounded():
        return await driver.generate(messages or [USER], Params(model_id=model, **others))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["", "/openai/v1"])
async def test_the_path_of_the_api_is_added_where_it_is_missing(upstream: Upstream, path: str) -> None:
    async with Driver(provider_class("groq")) as driver:
        done = await load(driver, upstream.url + path)
    assert upstream.exchanges[0].path == "/openai/v1/models"
    assert {model.id for model in done.models or ()} == {MODEL, THINKER, APART, NO_CHAT}, (
        "what is retired is not listed"
    )
    assert {model.context for model in done.models or ()} == {131072}


async def test_names_stand_in_the_content_and_what_it_has_not_is_ignored(driver: Driver, upstream: Upstream) -> None:
    answer = await ask(
        driver,
        MODEL,
        ChatMessage(role="user", content="erm", name="DEV"),
        temperature=0.5,
        max_output_length=33,
        stops=("q", "x", "y", "z", "!"),
        seed=7,
        top_p=0.5,
        presence_penalty=0.5,
        top_k=3,
    )
    assert body(upstream.exchanges[1]) == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "DEV: erm"}],
        "stream": True,
        "temperature": 0.5,
        "max_completion_tokens": 33,
        "stop": ["q", "x", "y", "z"],
        "seed": 7,
        "top_p": 0.5,
    }
    assert set(answer.done.ignored) == {"presence_penalty", "top_k"}


async def test_the_usage_is_where_groq_has_it(driver: Driver) -> None:
    usage = (await ask(driver, MODEL)).done.usage
    assert usage == Usage(prompt_tokens=9, completion_tokens=7, total_tokens=16)


async def test_thinking_in_the_text_is_taken_away_and_the_next_time_not_asked_for(
    driver: Driver, upstream: Upstream
) -> None:
    for _ in range(3):
        assert (await ask(driver, THINKER)).text == WORDS
        assert (await ask(driver, MODEL)).text == WORDS
        assert (await ask(driver, APART)).text == WORDS
    hidden = [body(exchange).get("reasoning_format") for exchange in upstream.exchanges[1:]]
    assert hidden[::3] == [None, "hidden", "hidden"]
    assert set(hidden[1::3] + hidden[2::3]) == {None}


async def test_a_model_that_stops_taking_the_field_is_asked_without_it(driver: Driver, upstream: Upstream) -> None:
    await ask(driver, MODEL)
    provider = provider_class("groq")
    learnt = provider._learnt  # type: ignore[attr-defined]  # what a worker has seen of its models
    learnt.add_thinker(f"{upstream.url}/openai/v1/chat/completions", MODEL)
    for _ in range(2):
        assert (await ask(driver, MODEL)).text == WORDS
    formats = [body(exchange).get("reasoning_format") for exchange in upstream.exchanges[1:]]
    assert formats == [None, "hidden", None, None]


async def test_an_error_that_groq_puts_into_a_good_stream_is_one(driver: Driver) -> None:
    failed = await failure(driver.generation([USER], Params(model_id=f"{MODEL};fail=x-groq-error")))
    assert failed.error is Code.UNEXPECTED
    assert "over capacity" in failed.message


@pytest.mark.parametrize("model", ["llama-0", RETIRED, NO_CHAT])
async def test_a_model_that_is_unknown_retired_or_no_chat_model_is_told_as_such(driver: Driver, model: str) -> None:
    failed = await failure(driver.generation([USER], Params(model_id=model)))
    assert failed.error is Code.INVALID_MODEL
    assert model in failed.message


async def test_the_time_to_wait_is_handed_on(driver: Driver) -> None:
    failed = await failure(driver.generation([USER], Params(model_id=f"{MODEL};error=rate")))
    assert (failed.retry_after_ms, failed.provider_code) == (7000, "rate_limit_exceeded")


def test_the_manifest_names_what_the_provider_reads() -> None:
    declared = read_manifest(WORKERS / "groq").declared
    assert (declared.key.need, declared.key.env) == (KeyNeed.REQUIRED, ("GROQ_API_KEY",))
    assert {name: (option.type, option.env) for name, option in declared.options.items()} == {
        "base_url": ("url", "GROQ_BASE_URL")
    }
    assert declared.options["base_url"].identity
