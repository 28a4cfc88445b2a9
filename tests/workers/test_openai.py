"""The worker `openai`, driven under the runtime's rules against a fake OpenAI."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.upstream.http1 import Exchange
from fakes.upstream.openai_api import GOOD_KEY, MODELS, RESTRICTED_KEY
from fakes.upstream.server import OpenAI, Upstream, running
from support.contract import USER, Described, ProviderContract, failure
from support.providers import WORKERS, provider_class
from support.waiting import bounded

from waifu_llm.catalog import KeyNeed, read_manifest
from waifu_worker import __version__
from waifu_worker.provider import ProviderError
from waifu_worker.testing import Answer, Driver, RequestFailed
from waifu_worker.wire import ChatMessage, Code, Done, Params, Usage

ERRORS = {
    "country": (Code.AUTHORIZATION, None),
    "edge": (Code.UNEXPECTED, "provider_down"),
    "payment": (Code.AUTHORIZATION, "quota"),
    "not-chat": (Code.INVALID_MODEL, None),
    "no-access": (Code.INVALID_MODEL, None),
    "context": (Code.INVALID_PROMPT, None),
    "policy": (Code.INVALID_PROMPT, "refused"),
    "moderation": (Code.INVALID_PROMPT, "refused"),
    "too-large": (Code.INVALID_PROMPT, None),
    "bad-messages": (Code.INVALID_PROMPT, None),
    "unprocessable": (Code.INVALID_PROMPT, None),
    "rate": (Code.UNEXPECTED, "rate_limited"),
    "rate-bare": (Code.UNEXPECTED, "rate_limited"),
    "quota": (Code.AUTHORIZATION, "quota"),
    "credit": (Code.AUTHORIZATION, "quota"),
    "slow-down": (Code.UNEXPECTED, "rate_limited"),
    "conflict": (Code.UNEXPECTED, "rate_limited"),
    "capacity": (Code.UNEXPECTED, "rate_limited"),
    "internal": (Code.UNEXPECTED, "provider_down"),
    "bad-gateway": (Code.UNEXPECTED, "provider_down"),
    "overloaded": (Code.UNEXPECTED, "provider_down"),
    "overloaded-529": (Code.UNEXPECTED, "provider_down"),
    "request-timeout": (Code.TIMEOUT, "provider_timeout"),
    "gateway-timeout": (Code.TIMEOUT, "provider_timeout"),
    "origin-timeout": (Code.TIMEOUT, "provider_timeout"),
    "odd": (Code.UNEXPECTED, None),
}


class TestContract(ProviderContract):
    described = Described(provider="openai", api=OpenAI, key=GOOD_KEY, model="gpt-4o-mini", errors=ERRORS)


URL_OPTIONS = ("organization", "project")


def body(exchange: Exchange) -> dict[str, object]:
    """What a generation sent."""
    value = exchange.json()
    assert isinstance(value, dict)
    return value


async def load(driver: Driver, upstream: Upstream, **more: object) -> Done:
    options = {"base_url": upstream.url + "/v1", **dict.fromkeys(URL_OPTIONS)}
    key = str(more.pop("api_key", GOOD_KEY))
    preload = more.pop("preload_model_id", None)
    async with bounded():
        return await driver.load(api_key=key, options={**options, **more}, preload_model_id=preload)  # type: ignore[arg-type, dict-item]


@pytest.fixture
async def driver(openai_upstream: Upstream) -> AsyncIterator[Driver]:
    async with Driver(provider_class("openai")) as driver:
        await load(driver, openai_upstream)
        yield driver


async def ask(driver: Driver, model: str, *messages: ChatMessage, **others: object) -> Answer:
    async with bounded():
        return await driver.generate(messages or [USER], Params(model_id=model, **others))  # type: ignore[arg-type]


async def test_it_says_who_it_is_and_asks_for_no_compression(openai_upstream: Upstream) -> None:
    async with Driver(provider_class("openai")) as driver:
        await load(driver, openai_upstream, organization="org-1", project="proj-1")
        await ask(driver, "gpt-4o-mini")
    for exchange in openai_upstream.exchanges:
        assert exchange.headers["user-agent"] == f"waifu-llm/{__version__}"
        assert exchange.headers["accept-encoding"] == "identity"
        assert exchange.headers["authorization"] == f"Bearer {GOOD_KEY}"
        assert exchange.headers["openai-organization"] == "org-1"
        assert exchange.headers["openai-project"] == "proj-1"


async def test_the_list_of_models_is_what_the_account_may_use(openai_upstream: Upstream) -> None:
    async with Driver(provider_class("openai")) as driver:
        done = await load(driver, openai_upstream)
        assert done.models is not None
        assert {model.id: model.owner for model in done.models} == MODELS
        assert await driver.models() == done.models


async def test_a_key_that_may_not_read_the_list_is_a_good_key(openai_upstream: Upstream) -> None:
    async with Driver(provider_class("openai")) as driver:
        done = await load(driver, openai_upstream, api_key=RESTRICTED_KEY)
        assert done.models == ()
        assert done.warning is not None
        assert "list of models" in done.warning
        assert await driver.models() == ()
        assert (await ask(driver, "gpt-4o-mini")).text == "Hello there, how are you?"


async def test_a_list_that_cannot_be_read_again_says_why() -> None:
    async with Driver(provider_class("openai")) as driver:
        async with running(OpenAI()) as upstream:
            await load(driver, upstream)
        with pytest.raises(RequestFailed) as caught:
            async with bounded():
                await driver.models()
    assert (caught.value.failed.error, caught.value.failed.reason) == (Code.UNEXPECTED, "provider_down")


async def test_blanks_around_a_key_are_no_part_of_it(openai_upstream: Upstream) -> None:
    async with Driver(provider_class("openai")) as driver:
        await load(driver, openai_upstream, api_key=f" {GOOD_KEY}\n")


@pytest.mark.parametrize("key", ["sk-a\r\nX-Evil: 1", "sk-ключ", "two words", "sk-\x00"])
async def test_what_cannot_be_a_key_is_refused_without_a_request(openai_upstream: Upstream, key: str) -> None:
    async with Driver(provider_class("openai")) as driver:
        with pytest.raises(RequestFailed) as caught:
            await load(driver, openai_upstream, api_key=key)
    assert caught.value.failed.error is Code.AUTHORIZATION
    assert not openai_upstream.exchanges


@pytest.mark.parametrize(
    "field",
    [
        {"base_url": "ftp://host/v1"},
        {"base_url": "host:80/v1"},
        {"base_url": "http://"},
        {"base_url": "http://user:password@host/v1"},
        {"base_url": "http://host:99999/v1"},
        {"base_url": "http://host/v1?x=1"},
        {"base_url": None},
        {"organization": "a\nb"},
        {"project": 7},
    ],
)
async def test_an_option_that_cannot_be_right_is_named(openai_upstream: Upstream, field: dict[str, object]) -> None:
    async with Driver(provider_class("openai")) as driver:
        with pytest.raises(RequestFailed) as caught:
            await load(driver, openai_upstream, **field)
    assert caught.value.failed.error is Code.UNEXPECTED
    assert next(iter(field)) in caught.value.failed.message
    assert "password" not in caught.value.failed.message
    assert not openai_upstream.exchanges


@pytest.mark.parametrize(
    ("root", "error", "reason", "hint"),
    [
        ("/edge", Code.UNEXPECTED, "provider_down", "edge"),
        ("/page", Code.UNEXPECTED, None, "base_url"),
        ("/other", Code.UNEXPECTED, None, "base_url"),
        ("/moved", Code.UNEXPECTED, None, "/v1/models"),
        ("/down", Code.UNEXPECTED, "provider_down", "503"),
        ("/v2", Code.UNEXPECTED, None, "base_url"),
        ("/endless", Code.UNEXPECTED, None, "8 MiB"),
        ("/cut", Code.UNEXPECTED, "truncated", "broke"),
    ],
)
async def test_a_wrong_address_is_not_taken_for_a_wrong_key(
    openai_upstream: Upstream, root: str, error: Code, reason: str | None, hint: str
) -> None:
    async with Driver(provider_class("openai")) as driver:
        with pytest.raises(RequestFailed) as caught:
            await load(driver, openai_upstream, base_url=openai_upstream.url + root)
    assert (caught.value.failed.error, caught.value.failed.reason) == (error, reason)
    assert hint in caught.value.failed.message
    assert len(openai_upstream.exchanges) == 1, "redirects are not followed"


async def test_a_preload_that_is_not_in_the_list_is_a_warning_and_no_request(openai_upstream: Upstream) -> None:
    async with Driver(provider_class("openai")) as driver:
        assert (await load(driver, openai_upstream, preload_model_id="gpt-4o")).warning is None
        warning = (await load(driver, openai_upstream, preload_model_id="gpt-0")).warning
    assert warning is not None
    assert "gpt-0" in warning
    assert len(openai_upstream.exchanges) == 2


async def test_a_model_is_unknown_only_where_the_service_says_so(driver: Driver, openai_upstream: Upstream) -> None:
    failed = await failure(driver.generation([USER], Params(model_id="gpt-0")))
    assert (failed.error, failed.http_status, failed.provider_code) == (Code.INVALID_MODEL, 404, "model_not_found")
    assert "gpt-0" in failed.message
    assert len(openai_upstream.exchanges) == 2


async def test_the_parameters_reach_the_service_under_its_names(driver: Driver, openai_upstream: Upstream) -> None:
    samplers = {"top_p": 0.5, "presence_penalty": 0.25, "frequency_penalty": -1.0, "seed": 7}
    answer = await ask(
        driver,
        "gpt-4o",
        temperature=0.5,
        max_output_length=33,
        stops=("", "a", "b", "c", "d", "e"),
        top_k=4,
        **samplers,
    )
    assert body(openai_upstream.exchanges[1]) == {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_completion_tokens": 33,
        "stop": ["a", "b", "c", "d"],
        **samplers,
    }
    assert answer.done.ignored == ("top_k",)
    assert answer.text == "H", "the stop that the service did not get holds all the same"


async def test_a_temperature_is_clamped_to_the_range_of_the_service(driver: Driver, openai_upstream: Upstream) -> None:
    await ask(driver, "gpt-4o", temperature=9.0)
    assert body(openai_upstream.exchanges[1])["temperature"] == 2.0


async def test_a_name_that_fits_is_the_field_and_another_stands_before_the_content(
    driver: Driver, openai_upstream: Upstream
) -> None:
    messages = [
        ChatMessage(role="system", content="Be kind.", name="rules"),
        ChatMessage(role="user", content="Hi", name="Dev 1"),
        ChatMessage(role="user", content="Hi", name="Ünï"),
        ChatMessage(role="assistant", content="Yo", name="x" * 65),
        ChatMessage(role="tool", content="22 C", name="weather"),
        ChatMessage(role="function", content="7"),
    ]
    await ask(driver, "gpt-4o", *messages)
    assert body(openai_upstream.exchanges[1])["messages"] == [
        {"role": "system", "content": "Be kind.", "name": "rules"},
        {"role": "user", "content": "Dev 1: Hi"},
        {"role": "user", "content": "Ünï: Hi"},
        {"role": "assistant", "content": f"{'x' * 65}: Yo"},
        {"role": "user", "content": "weather: 22 C"},
        {"role": "user", "content": "7"},
    ]


async def test_a_parameter_that_a_model_refuses_is_dropped_remembered_and_reported(
    driver: Driver, openai_upstream: Upstream
) -> None:
    for _ in range(2):
        answer = await ask(driver, "o3", temperature=0.5, stops=("never",))
        assert answer.text == "Hello there, how are you?"
        assert answer.done.ignored == ("temperature",), "stops are enforced here all the same"
    sent = [{"temperature", "stop"} & set(body(exchange)) for exchange in openai_upstream.exchanges[1:]]
    assert sent == [{"temperature", "stop"}, {"stop"}, set(), set()]


async def test_what_one_model_refuses_another_still_gets(driver: Driver, openai_upstream: Upstream) -> None:
    await ask(driver, "gpt-5.5", temperature=0.5)
    await ask(driver, "gpt-4o", temperature=0.5)
    assert "temperature" in body(openai_upstream.exchanges[-1])


async def test_the_only_temperature_of_a_model_is_not_reported_as_ignored(driver: Driver) -> None:
    await ask(driver, "gpt-5.5", temperature=0.5)
    assert (await ask(driver, "gpt-5.5", temperature=1.0)).done.ignored == ()


async def test_what_a_worker_learned_of_a_model_outlives_the_load(openai_upstream: Upstream) -> None:
    async with Driver(provider_class("openai")) as driver:
        for _ in range(2):
            await load(driver, openai_upstream)
            await ask(driver, "gpt-5.5", temperature=0.5)
    assert [exchange.method for exchange in openai_upstream.exchanges] == ["GET", "POST", "POST", "GET", "POST"]


async def test_an_older_service_gets_the_older_name_of_the_length(driver: Driver, openai_upstream: Upstream) -> None:
    for _ in range(2):
        answer = await ask(driver, "gpt-4o;error=refuse-length", max_output_length=33)
        assert answer.done.ignored == ()
    assert [body(exchange).get("max_tokens") for exchange in openai_upstream.exchanges[1:]] == [None, 33, 33]


async def test_a_value_that_is_too_large_is_left_out_once_and_tried_again_the_next_time(
    driver: Driver, openai_upstream: Upstream
) -> None:
    for _ in range(2):
        answer = await ask(driver, "gpt-4o;error=max-too-large", max_output_length=100_000)
        assert answer.done.ignored == ("max_output_length",)
    lengths = [body(exchange).get("max_completion_tokens") for exchange in openai_upstream.exchanges[1:]]
    assert lengths == [100_000, None, 100_000, None]


async def test_a_sampler_out_of_its_range_is_left_out_and_reported(driver: Driver, openai_upstream: Upstream) -> None:
    assert (await ask(driver, "gpt-4o", top_p=5.0)).done.ignored == ("top_p",)
    assert (await ask(driver, "gpt-4o", top_p=0.5)).done.ignored == ()
    assert [body(exchange).get("top_p") for exchange in openai_upstream.exchanges[1:]] == [5.0, None, 0.5]


async def test_a_parameter_named_in_another_services_form_is_dropped_too(driver: Driver) -> None:
    assert (await ask(driver, "gpt-4o;error=unknown-extra", seed=7)).done.ignored == ("seed",)


async def test_no_time_left_means_no_second_try(driver: Driver, openai_upstream: Upstream) -> None:
    failed = await failure(driver.generation([USER], Params(model_id="o3", temperature=0.5), time_left_ms=0))
    assert failed.error is Code.UNEXPECTED
    assert "temperature" in failed.message
    assert len(openai_upstream.exchanges) == 2


@pytest.mark.parametrize(
    ("error", "wait_ms"), [("rate", 7000), ("rate-ms", 1500), ("rate-date", 24 * 3600 * 1000), ("rate-bare", None)]
)
async def test_the_time_to_wait_is_handed_on(driver: Driver, error: str, wait_ms: int | None) -> None:
    failed = await failure(driver.generation([USER], Params(model_id=f"gpt-4o;error={error}")))
    assert (failed.retry_after_ms, failed.http_status, failed.provider_code) == (wait_ms, 429, "rate_limit_exceeded")


async def test_the_usage_comes_with_the_end(driver: Driver) -> None:
    answer = await ask(driver, "gpt-4o")
    assert answer.done.usage == Usage(prompt_tokens=9, completion_tokens=7, total_tokens=16)


async def test_thinking_is_no_part_of_the_answer(driver: Driver) -> None:
    assert (await ask(driver, "gpt-5.5;kind=thinking")).text == "Hello there, how are you?"


async def test_a_refusal_is_the_answer(driver: Driver) -> None:
    assert (await ask(driver, "gpt-4o;kind=refusal")).text == "Hello there, how are you?"


async def test_an_answer_withheld_by_the_policy_is_refused_and_half_of_one_is_an_answer(driver: Driver) -> None:
    failed = await failure(driver.generation([USER], Params(model_id="gpt-4o;say=empty;reason=content_filter")))
    assert (failed.error, failed.reason) == (Code.INVALID_PROMPT, "refused")
    answer = await ask(driver, "gpt-4o;reason=content_filter")
    assert (answer.done.finish_reason, answer.text) == ("content_filter", "Hello there, how are you?")


async def test_an_answer_that_was_all_thinking_says_why_it_is_empty(driver: Driver) -> None:
    answer = await ask(driver, "gpt-5.5;say=empty;reason=length", max_output_length=55)
    assert (answer.text, answer.done.finish_reason) == ("", "length")
    assert answer.done.warning is not None
    assert "55" in answer.done.warning
    assert (await ask(driver, "gpt-5.5;reason=length")).done.warning is None


async def test_a_finish_reason_that_is_a_failure_is_one(driver: Driver) -> None:
    failed = await failure(driver.generation([USER], Params(model_id="gpt-4o;reason=insufficient_system_resource")))
    assert (failed.error, failed.reason) == (Code.UNEXPECTED, "provider_down")


@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_a_proxy_of_the_environment_is_used_and_its_exceptions_hold(
    openai_upstream: Upstream, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("http_proxy", f"{scheme}me:pass@127.0.0.1:{openai_upstream.port}")
    async with Driver(provider_class("openai")) as driver:
        await load(driver, openai_upstream, base_url="http://api.invalid/v1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        await load(driver, openai_upstream)
    through, direct = openai_upstream.exchanges
    assert (through.target, direct.target) == ("http://api.invalid/v1/models", "/v1/models")
    assert through.headers["proxy-authorization"] == "Basic bWU6cGFzcw=="
    assert "proxy-authorization" not in direct.headers


async def test_a_netrc_of_the_user_is_left_alone(
    openai_upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret", "utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with Driver(provider_class("openai")) as driver:
        await load(driver, openai_upstream)
    assert openai_upstream.exchanges[0].headers["authorization"] == f"Bearer {GOOD_KEY}"


async def test_a_provider_that_is_closed_says_so() -> None:
    provider = provider_class("openai")()
    await provider.close()
    with pytest.raises(ProviderError, match="not loaded"):
        await provider.models()


def test_the_manifest_names_what_the_provider_reads() -> None:
    manifest = read_manifest(WORKERS / "openai")
    assert set(manifest.declared.options) == {"base_url", *URL_OPTIONS}
    assert manifest.declared.options["base_url"].identity
    assert manifest.declared.key.need is KeyNeed.REQUIRED
