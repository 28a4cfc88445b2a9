"""The worker `openai_compatible`, driven under the runtime's rules against fakes of many kinds of servers."""

from collections.abc import Mapping

import pytest
from fakes.upstream.compatible_api import GOOD_KEY, XAI, Compatible, Mistral, Open, OpenRouter
from fakes.upstream.http1 import Exchange
from fakes.upstream.scenario import SAYINGS
from fakes.upstream.server import Api, Upstream, running
from support.contract import USER, Described, ProviderContract, failure
from support.providers import WORKERS, provider_class
from support.waiting import bounded
from waifu_openai_compatible.presets import PRESETS

from waifu_llm.catalog import KeyNeed, read_manifest
from waifu_worker.chat_completions import ChatCompletionsProvider
from waifu_worker.provider import LoadRequest
from waifu_worker.testing import Answer, Driver, RequestFailed
from waifu_worker.wire import ChatMessage, Code, Done, Failed, OptionValue, Params

WORDS = "".join(SAYINGS["words"])
ERRORS = {
    "detail-model": (Code.INVALID_MODEL, None),
    "detail-path": (Code.UNEXPECTED, None),
    "detail-list": (Code.INVALID_PROMPT, None),
    "plain-path": (Code.UNEXPECTED, None),
    "plain-internal": (Code.UNEXPECTED, "provider_down"),
    "plain-unprocessable": (Code.INVALID_PROMPT, None),
    "string-model": (Code.INVALID_MODEL, None),
    "vllm-model": (Code.INVALID_MODEL, None),
    "ollama-model": (Code.INVALID_MODEL, None),
    "mistral-model": (Code.INVALID_MODEL, None),
    "openrouter-model": (Code.INVALID_MODEL, None),
    "openrouter-endpoint": (Code.INVALID_MODEL, None),
    "openrouter-credits": (Code.AUTHORIZATION, "quota"),
    "openrouter-moderation": (Code.INVALID_PROMPT, "refused"),
    "openrouter-timeout": (Code.TIMEOUT, "provider_timeout"),
    "openrouter-down": (Code.UNEXPECTED, "provider_down"),
    "llama-loading": (Code.UNEXPECTED, "provider_down"),
    "llama-context": (Code.INVALID_PROMPT, None),
    "cohere-token": (Code.AUTHORIZATION, None),
    "rate": (Code.UNEXPECTED, "rate_limited"),
    "tabby": (Code.AUTHORIZATION, None),
    "proxy": (Code.UNEXPECTED, "provider_down"),
}


class TestContract(ProviderContract):
    described = Described(
        provider="openai_compatible", api=Compatible, key=GOOD_KEY, model="local", path="/v1", errors=ERRORS
    )


class Loaded:
    """A server, and a worker that is loaded with it."""

    def __init__(
        self, api: type[Api], preset: str | None = None, key: str | None = GOOD_KEY, path: str = "/v1"
    ) -> None:
        self._server = running(api())
        self._driver = Driver(provider_class("openai_compatible"))
        self._preset, self._key, self._path = preset, key, path

    async def __aenter__(self) -> "Loaded":
        self.upstream: Upstream = await self._server.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._driver.__aexit__()
        await self._server.__aexit__(None, None, None)

    async def load(self, **options: str | None) -> Done:
        url = self.upstream.url + self._path
        async with bounded():
            return await self._driver.load(
                api_key=self._key, options={"base_url": url, "preset": self._preset, **options}
            )

    async def refusal(self, **options: str | None) -> Failed:
        with pytest.raises(RequestFailed) as caught:
            await self.load(**options)
        return caught.value.failed

    async def ask(self, model: str, *messages: ChatMessage, prompt: str | None = None, **others: object) -> Answer:
        params = Params(model_id=model, **others)  # type: ignore[arg-type]  # as each test gives them
        async with bounded():
            return await self._driver.generate(prompt if prompt is not None else messages or [USER], params)

    async def failed(self, model: str, *, prompt: str | None = None) -> Failed:
        return await failure(self._driver.generation(prompt or [USER], Params(model_id=model)))

    def sent(self, number: int = -1) -> Mapping[str, object]:
        value = self.upstream.exchanges[number].json()
        assert isinstance(value, dict)
        return value


async def test_a_load_that_does_not_say_where_says_what_to_give() -> None:
    async with Loaded(Open) as loaded:
        failed = await loaded.refusal(base_url=None)
    assert failed.error is Code.UNEXPECTED
    assert "base_url" in failed.message
    assert "openrouter" in failed.message


@pytest.mark.parametrize("preset", PRESETS)
async def test_a_preset_says_where_its_server_is_and_a_load_may_say_otherwise(preset: str) -> None:
    provider = provider_class("openai_compatible")()
    assert isinstance(provider, ChatCompletionsProvider)
    for url in (None, "http://elsewhere:99/v1"):
        options: dict[str, OptionValue] = {"base_url": url, "preset": preset}
        client = provider.connect(LoadRequest(None, options, None, lambda *_: None))
        assert client.upstream.base_url == (url or PRESETS[preset].url)
        assert client.upstream.title == PRESETS[preset].dialect.title
        await client.close()


async def test_a_server_without_keys_gets_none() -> None:
    async with Loaded(Open, key=None) as loaded:
        done = await loaded.load()
        assert [model.id for model in done.models or ()] == ["local", "thinker"]
        assert [model.context for model in done.models or ()] == [4096, None]
        assert (await loaded.ask("local")).text == WORDS
    assert all("authorization" not in exchange.headers for exchange in loaded.upstream.exchanges)


async def test_a_key_that_is_missing_where_one_is_needed_is_told_as_such() -> None:
    async with Loaded(Compatible, key=None) as loaded:
        assert (await loaded.refusal()).error is Code.AUTHORIZATION


async def test_what_any_server_takes_is_sent_and_the_rest_learnt() -> None:
    async with Loaded(Open) as loaded:
        await loaded.load()
        said = ChatMessage(role="user", content="Hi", name="dev")
        answer = await loaded.ask(
            "local", said, max_output_length=33, stops=("q", "b", "x", "v", "z"), top_k=3, repeat_last_n=64
        )
        assert loaded.sent() == {
            "model": "local",
            "messages": [{"role": "user", "content": "dev: Hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 1.0,
            "max_tokens": 33,
            "stop": ["q", "b", "x", "v"],
            "top_k": 3,
        }
        assert answer.done.ignored == ("repeat_last_n",)


async def test_a_field_that_a_server_does_not_know_is_left_out_and_remembered() -> None:
    async with Loaded(Mistral) as loaded:
        await loaded.load()
        for _ in range(2):
            assert (await loaded.ask("magistral", top_k=3)).done.ignored == ("top_k",)
    sent = [{"top_k", "stream_options"} & set(_body(exchange)) for exchange in loaded.upstream.exchanges[1:]]
    assert sent == [{"top_k", "stream_options"}, {"top_k"}, set(), set()]


def _body(exchange: Exchange) -> dict[str, object]:
    value = exchange.json()
    assert isinstance(value, dict)
    return value


async def test_a_value_out_of_its_range_is_left_out_once() -> None:
    async with Loaded(Mistral) as loaded:
        await loaded.load()
        assert (await loaded.ask("magistral", temperature=1.9)).done.ignored == ("temperature",)
        assert (await loaded.ask("magistral", temperature=0.5)).done.ignored == ()


async def test_the_name_of_the_length_can_be_given() -> None:
    async with Loaded(XAI) as loaded:
        await loaded.load(max_tokens_field="max_completion_tokens")
        await loaded.ask("grok", max_output_length=33)
        assert loaded.sent()["max_completion_tokens"] == 33
        assert "max_tokens" not in loaded.sent()


async def test_raw_text_is_completed_where_the_server_can() -> None:
    async with Loaded(Open, "vllm") as loaded:
        await loaded.load()
        answer = await loaded.ask("local;say=unicode", prompt="Once upon", max_output_length=33, repeat_penalty=1.1)
        assert answer.text == "".join(SAYINGS["unicode"])
        assert loaded.upstream.exchanges[-1].path == "/v1/completions"
        sent = loaded.sent()
        assert (sent["prompt"], sent["max_tokens"]) == ("Once upon", 33)
        assert not {"messages", "max_completion_tokens"} & set(sent)
        await loaded.ask("local", max_output_length=33)
        assert loaded.sent()["max_completion_tokens"] == 33


async def test_raw_text_where_the_service_completes_none_is_refused_without_a_request() -> None:
    async with Loaded(Mistral, "mistral") as loaded:
        await loaded.load()
        failed = await loaded.failed("magistral", prompt="Once upon")
        assert failed.error is Code.INVALID_PROMPT
        assert len(loaded.upstream.exchanges) == 1


async def test_what_a_model_thinks_in_its_text_is_taken_away() -> None:
    async with Loaded(Open) as loaded:
        await loaded.load()
        assert (await loaded.ask("thinker")).text == WORDS


async def test_openrouter_checks_its_key_where_only_good_ones_may_look() -> None:
    async with Loaded(OpenRouter, "openrouter", path="/api/v1") as loaded:
        done = await loaded.load()
        assert [(model.id, model.context) for model in done.models or ()] == [("a/b", 131072)]
        assert [exchange.path for exchange in loaded.upstream.exchanges] == ["/api/v1/key", "/api/v1/models"]
        await loaded.ask("a/b", ChatMessage(role="user", content="Hi", name="dev"), repeat_penalty=1.1)
        assert loaded.sent()["repetition_penalty"] == 1.1
        assert loaded.sent()["messages"] == [{"role": "user", "content": "Hi", "name": "dev"}]
        assert loaded.upstream.exchanges[-1].headers["x-title"] == "waifu-llm"
    async with Loaded(OpenRouter, "openrouter", key="sk-or-wrong", path="/api/v1") as loaded:
        assert (await loaded.refusal()).error is Code.AUTHORIZATION
        assert len(loaded.upstream.exchanges) == 1


@pytest.mark.parametrize(("fail", "reason"), [("openrouter-error", "rate_limited"), ("finish-error", "provider_down")])
async def test_an_error_in_the_middle_of_a_stream_is_one_whatever_its_form(fail: str, reason: str) -> None:
    async with Loaded(Open) as loaded:
        await loaded.load()
        failed = await loaded.failed(f"local;fail={fail}")
    assert (failed.error, failed.reason) == (Code.UNEXPECTED, reason)


async def test_mistral_gets_its_own_names_and_its_parts_are_text_without_what_it_thinks() -> None:
    async with Loaded(Mistral, "mistral") as loaded:
        done = await loaded.load()
        assert [model.context for model in done.models or ()] == [40960]
        answer = await loaded.ask("magistral;say=unicode", temperature=1.9, seed=7, stops=tuple("QWRTYZ"))
        assert answer.text == "".join(SAYINGS["unicode"])
        sent = loaded.sent()
        assert (sent["random_seed"], sent["temperature"], sent["stop"]) == (7, 1.5, list("QWRTYZ"))
        assert not {"seed", "stream_options", "max_completion_tokens"} & set(sent)


async def test_xai_refuses_a_key_in_a_way_of_its_own_and_a_stop_in_plain_text() -> None:
    async with Loaded(XAI, "xai", key="gs-wrong-0123456789tF") as loaded:
        failed = await loaded.refusal()
        assert failed.error is Code.AUTHORIZATION
        assert "tF" not in failed.message
    async with Loaded(XAI, "xai") as loaded:
        await loaded.load()
        assert (await loaded.ask("grok", stops=("there",))).text == "Hello "


async def test_a_wrong_address_is_no_unknown_model() -> None:
    async with Loaded(Open, path="/v2") as loaded:
        failed = await loaded.refusal()
    assert failed.error is Code.UNEXPECTED
    assert "base_url" in failed.message


def test_the_manifest_names_what_the_provider_reads() -> None:
    declared = read_manifest(WORKERS / "openai_compatible").declared
    assert (declared.key.need, declared.key.env) == (KeyNeed.OPTIONAL, ("OPENAI_COMPATIBLE_API_KEY",))
    assert declared.options["preset"].choices == tuple(sorted(PRESETS))
    assert declared.options["preset"].address, "a preset that a client chose must not get this server's key"
    assert declared.options["base_url"].type == "url"
    assert all(declared.options[name].identity for name in ("preset", "base_url"))
    assert "text" in declared.abilities
