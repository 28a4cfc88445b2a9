"""The worker `ollama`, driven under the runtime's rules against a fake Ollama."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes.upstream.http1 import Exchange
from fakes.upstream.ollama_api import GOOD_KEY, INSTALLED, LIBRARY, Ollama
from fakes.upstream.scenario import SAYINGS
from fakes.upstream.server import Upstream, running
from support.contract import USER, Described, ProviderContract, ended, failure
from support.providers import WORKERS, provider_class
from support.waiting import bounded
from waifu_ollama import Provider, daemon
from waifu_ollama.daemon import Daemon
from waifu_ollama.settings import read_settings

from waifu_llm.catalog import KeyNeed, read_manifest
from waifu_worker.chat_dialect import Learnt
from waifu_worker.provider import ProviderError
from waifu_worker.testing import Answer, Driver, RequestFailed
from waifu_worker.wire import ChatMessage, Code, Done, Failed, Load, OptionValue, Params, Usage

ERRORS = {
    "memory": (Code.UNEXPECTED, "out_of_memory"),
    "cuda": (Code.UNEXPECTED, "out_of_memory"),
    "busy": (Code.UNEXPECTED, "busy"),
    "signin": (Code.AUTHORIZATION, None),
    "payment": (Code.AUTHORIZATION, "quota"),
    "gone": (Code.INVALID_MODEL, None),
    "no-chat": (Code.INVALID_MODEL, None),
    "context": (Code.INVALID_PROMPT, None),
    "too-large": (Code.INVALID_PROMPT, None),
    "rate": (Code.UNEXPECTED, "rate_limited"),
    "internal": (Code.UNEXPECTED, "provider_down"),
    "bad-gateway": (Code.UNEXPECTED, "provider_down"),
    "edge": (Code.UNEXPECTED, "provider_down"),
    "odd": (Code.UNEXPECTED, None),
}
WORDS = "".join(SAYINGS["words"])
LLAMA = "llama3.2"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has just started: it knows no model."""
    monkeypatch.setattr(Daemon, "_known", {})
    monkeypatch.setattr(Provider, "_learnt", Learnt())


class TestContract(ProviderContract):
    described = Described("ollama", Ollama, GOOD_KEY, LLAMA, path="", errors=ERRORS)

    @pytest.fixture(autouse=True)
    async def known(self, fresh: None) -> None:
        """A worker that knows the models from another load: theirs is the one request that each load makes."""
        async with running(Ollama()) as upstream, Driver(provider_class("ollama")) as driver, bounded():
            await self.load(driver, upstream.url)


@pytest.fixture
def program() -> Ollama:
    return Ollama()


@pytest.fixture
async def upstream(program: Ollama) -> AsyncIterator[Upstream]:
    async with running(program) as upstream:
        yield upstream


@pytest.fixture
async def driver(upstream: Upstream) -> AsyncIterator[Driver]:
    async with Driver(provider_class("ollama")) as driver:
        await load(driver, upstream)
        upstream.exchanges.clear()
        yield driver


async def load(
    driver: Driver, upstream: Upstream, preload: str | None = None, *, ctx: int = 1, **options: OptionValue
) -> Done:
    async with bounded():
        given: dict[str, OptionValue] = {"base_url": upstream.url, **options}
        return await driver.load(options=given, preload_model_id=preload, ctx=ctx)


async def refused(
    driver: Driver, upstream: Upstream, preload: str | None = None, options: dict[str, OptionValue] | None = None
) -> Failed:
    with pytest.raises(RequestFailed) as caught:
        await load(driver, upstream, preload, **(options or {}))  # type: ignore[arg-type]  # no option is called ctx
    return caught.value.failed


async def ask(driver: Driver, model: str, *messages: ChatMessage, **others: object) -> Answer:
    async with bounded():
        return await driver.generate(messages or [USER], Params(model_id=model, **others))  # type: ignore[arg-type]


def body(exchange: Exchange) -> dict[str, object]:
    """What was sent."""
    value = exchange.json()
    assert isinstance(value, dict)
    return value


def talks(upstream: Upstream) -> list[dict[str, object]]:
    """What was sent to chat, to load and to unload."""
    return [body(exchange) for exchange in upstream.exchanges if exchange.path == "/api/chat"]


async def test_a_program_that_does_not_run_is_told_with_what_to_do() -> None:
    async with running(Ollama()) as upstream:
        pass
    async with Driver(provider_class("ollama")) as driver:
        failed = await refused(driver, upstream)
    assert (failed.error, failed.reason) == (Code.UNEXPECTED, "provider_down")
    assert "ollama serve" in failed.message
    assert "ssl" not in failed.message, "what aiohttp says around it"
    assert upstream.url.removeprefix("http://") in failed.message


@pytest.mark.parametrize("root", ["/page", "/other", "/v1"])
async def test_what_is_not_ollama_is_told_by_its_address(upstream: Upstream, root: str) -> None:
    async with Driver(provider_class("ollama")) as driver:
        failed = await refused(driver, upstream, options={"base_url": upstream.url + root})
    assert failed.error is Code.UNEXPECTED
    assert "base_url" in failed.message


async def test_a_program_on_this_machine_is_never_asked_through_a_proxy(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with Driver(provider_class("ollama")) as driver:
        for host in ("127.0.0.1", "localhost"):
            await load(driver, upstream, base_url=f"http://{host}:{upstream.port}")


async def test_no_key_is_sent_unless_there_is_one(driver: Driver, upstream: Upstream) -> None:
    await load(driver, upstream)
    assert all("authorization" not in exchange.headers for exchange in upstream.exchanges)
    async with bounded():
        await driver.load(api_key=GOOD_KEY, options={"base_url": upstream.url})
    assert upstream.exchanges[-1].headers["authorization"] == f"Bearer {GOOD_KEY}"


async def test_the_models_come_with_kind_size_and_context(upstream: Upstream) -> None:
    async with Driver(provider_class("ollama")) as driver:
        models = {model.id: model for model in (await load(driver, upstream)).models or ()}
        assert tuple(models) == INSTALLED
        for name, model in models.items():
            assert (model.size_bytes, model.context) == (LIBRARY[name].size, LIBRARY[name].context)
            assert model.kind == ("embedding" if "embed" in name else "chat")
        count = len(upstream.exchanges)
        assert await driver.models() == tuple(models.values())
        assert len(upstream.exchanges) == count + 1, "what is known of a model is not asked again"


@pytest.mark.parametrize("show", ["refuse", "stall"])
async def test_models_that_tell_nothing_of_themselves_are_listed_all_the_same(
    upstream: Upstream, program: Ollama, show: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "_DETAILS_S", 0.05)
    program.show = show
    async with Driver(provider_class("ollama")) as driver:
        models = (await load(driver, upstream)).models or ()
    assert [(model.id, model.kind, model.context) for model in models] == [(name, None, None) for name in INSTALLED]
    assert models[0].size_bytes == LIBRARY[INSTALLED[0]].size


async def test_an_ollama_without_any_model_says_how_to_get_one(program: Ollama, upstream: Upstream) -> None:
    program.have.clear()
    async with Driver(provider_class("ollama")) as driver:
        done = await load(driver, upstream)
    assert not done.models
    assert "ollama pull" in (done.warning or "")


async def test_what_is_known_of_models_is_bounded(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "_MOST_DETAILS", 2)
    async with Driver(provider_class("ollama")) as driver:
        for _ in range(2):
            models = (await load(driver, upstream)).models or ()
            assert all(model.context for model in models)


async def test_a_request_has_everything_under_ollamas_names(upstream: Upstream) -> None:
    samplers = {
        "top_p": 0.5, "top_k": 4, "min_p": 0.1, "repeat_penalty": 1.1, "repeat_last_n": 64, "presence_penalty": 0.25,
        "frequency_penalty": -1.0, "seed": 7,
    }  # fmt: skip
    messages = [
        ChatMessage(role="system", content="Be kind."),
        ChatMessage(role="user", content="Hi", name="Dev"),
        ChatMessage(role="assistant", content="Yo"),
        ChatMessage(role="function", content="22 C", name="weather"),
    ]
    async with Driver(provider_class("ollama")) as driver:
        await load(driver, upstream, keep_alive="10m", num_ctx=4096)
        answer = await ask(
            driver, LLAMA, *messages, temperature=0.5, max_output_length=33, stops=("never", ""), **samplers
        )
    assert talks(upstream) == [
        {
            "model": LLAMA,
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Dev: Hi"},
                {"role": "assistant", "content": "Yo"},
                {"role": "user", "content": "weather: 22 C"},
            ],
            "stream": True,
            "think": False,
            "keep_alive": "10m",
            "options": {"temperature": 0.5, "num_predict": 33, "num_ctx": 4096, "stop": ["never"], **samplers},
        }
    ]
    assert (answer.text, answer.done.ignored) == (WORDS, ())
    assert answer.done.usage == Usage(prompt_tokens=9, completion_tokens=7, total_tokens=16)


async def test_what_is_not_given_is_ollamas_to_decide(driver: Driver, upstream: Upstream) -> None:
    await ask(driver, LLAMA)
    (sent,) = talks(upstream)
    assert set(sent) == {"model", "messages", "stream", "think", "options"}
    assert sent["options"] == {"temperature": 1.0, "num_predict": 200}


async def test_a_raw_text_is_completed_as_it_is(driver: Driver, upstream: Upstream) -> None:
    async with bounded():
        answer = await driver.generate("Once upon", Params(model_id=f"{LLAMA};say=echo", max_output_length=2))
    assert (answer.text, answer.done.finish_reason) == ("Once upo", "length")
    assert upstream.exchanges[0].path == "/api/generate"
    assert body(upstream.exchanges[0])["raw"] is True


@pytest.mark.parametrize("model", ["llama3.2", "llama3.2:latest", "qwen3:4b"])
async def test_models_are_named_with_or_without_their_tag(driver: Driver, model: str) -> None:
    assert (await ask(driver, model)).text == WORDS


@pytest.mark.parametrize("model", ["llama3.2:1b", "nobody/llama", "phi4"])
async def test_an_unknown_model_is_told_with_how_to_get_it(driver: Driver, model: str) -> None:
    failed = await failure(driver.generation([USER], Params(model_id=model)))
    assert (failed.error, failed.http_status) == (Code.INVALID_MODEL, 404)
    assert f"ollama pull {model}" in failed.message
    assert "pull: true" in failed.message


async def test_thinking_is_no_part_of_the_answer(driver: Driver) -> None:
    assert (await ask(driver, "qwen3:4b;kind=thinking")).text == WORDS


async def test_a_model_that_does_not_know_thinking_is_asked_again_without_the_word() -> None:
    async with running(Ollama(refuses_think=[LLAMA])) as upstream, Driver(provider_class("ollama")) as driver:
        await load(driver, upstream)
        for _ in range(2):
            assert (await ask(driver, LLAMA)).text == WORDS
        assert (await ask(driver, "qwen3:4b")).text == WORDS
    assert ["think" in sent for sent in talks(upstream)] == [True, False, False, True]


async def test_an_answer_that_was_all_thinking_says_why_it_is_empty(driver: Driver) -> None:
    answer = await ask(driver, "qwen3:4b;say=empty;reason=length", max_output_length=55)
    assert (answer.text, answer.done.finish_reason) == ("", "length")
    assert "55" in (answer.done.warning or "")


async def test_memory_that_runs_out_in_the_middle_is_told_as_such(driver: Driver) -> None:
    failed = await failure(driver.generation([USER], Params(model_id=f"{LLAMA};fail=error-event;kind=memory")))
    assert (failed.error, failed.reason) == (Code.UNEXPECTED, "out_of_memory")
    assert "num_ctx" in failed.message


async def test_a_model_without_an_account_for_it_says_how_to_sign_in(driver: Driver) -> None:
    failed = await failure(driver.generation([USER], Params(model_id=f"{LLAMA};error=signin")))
    assert failed.error is Code.AUTHORIZATION
    assert "ollama signin" in failed.message


async def test_a_preload_is_in_memory_when_the_load_is_done_and_goes_with_it(
    program: Ollama, upstream: Upstream
) -> None:
    async with Driver(provider_class("ollama")) as driver:
        await load(driver, upstream, LLAMA, keep_alive="-1", num_ctx=2048)
        assert program.memory == {"llama3.2:latest": -1}
        assert program.contexts["llama3.2:latest"] == 2048
        assert [report.stage for report in driver.progress] == ["model"]
    assert program.memory == {}
    assert talks(upstream)[-1] == {"model": LLAMA, "messages": [], "stream": False, "keep_alive": 0}


async def test_a_model_that_was_in_memory_before_stays_there(program: Ollama, upstream: Upstream) -> None:
    program.memory["llama3.2:latest"] = "24h"
    async with Driver(provider_class("ollama")) as driver:
        await load(driver, upstream, LLAMA)
    assert "llama3.2:latest" in program.memory


async def test_a_model_that_was_only_used_is_left_to_ollama(driver: Driver, program: Ollama) -> None:
    await ask(driver, LLAMA)
    await driver.requests.close()
    assert "llama3.2:latest" in program.memory


async def test_the_last_load_that_wants_a_model_takes_it_out(program: Ollama, upstream: Upstream) -> None:
    async with Driver(provider_class("ollama")) as driver:
        await load(driver, upstream, LLAMA, ctx=1)
        await load(driver, upstream, f"{LLAMA}:latest", ctx=2, num_ctx=4096)
        driver.unload(1)
        await asyncio.sleep(0)
        assert await driver.models(ctx=2)
        assert "llama3.2:latest" in program.memory
    assert program.memory == {}


@pytest.mark.parametrize(
    ("model", "error", "reason"),
    [
        ("phi4", Code.INVALID_MODEL, None),
        ("nomic-embed-text", Code.INVALID_MODEL, None),
        ("huge:70b", Code.UNEXPECTED, "out_of_memory"),
    ],
)
async def test_a_preload_that_cannot_be_fails_the_load(
    program: Ollama, upstream: Upstream, model: str, error: Code, reason: str | None
) -> None:
    async with Driver(provider_class("ollama")) as driver:
        failed = await refused(driver, upstream, model)
    assert (failed.error, failed.reason) == (error, reason)
    assert [sent.get("keep_alive") for sent in talks(upstream)] == [None], "there is nothing to take out"
    assert "phi4:latest" not in program.have


async def test_a_preload_that_fails_leaves_alone_what_was_in_memory_before(program: Ollama, upstream: Upstream) -> None:
    program.memory["huge:70b"] = "24h"
    async with Driver(provider_class("ollama")) as driver:
        assert (await refused(driver, upstream, "huge:70b")).reason == "out_of_memory"
    assert "huge:70b" in program.memory


async def test_a_preload_that_is_cancelled_is_taken_out_again(program: Ollama, upstream: Upstream) -> None:
    async with Driver(provider_class("ollama")) as driver:
        message = Load(id=0, ctx=1, options={"base_url": upstream.url}, preload_model_id=f"{LLAMA};fail=silent")
        loading = driver.start(message)
        count = 1 + len(INSTALLED) + 1
        async with bounded():
            exchange = await upstream.exchange(count)
        assert exchange.path == "/api/chat"
        loading.cancel()
        assert (await failure(loading)).error is Code.INTERRUPT
        assert await ended(upstream, count) in ("eof", "reset")
    assert program.memory == {}


async def test_a_model_is_pulled_only_where_the_load_asks_for_it(program: Ollama, upstream: Upstream) -> None:
    async with Driver(provider_class("ollama")) as driver:
        done = await load(driver, upstream, "phi4", pull=True)
        assert "phi4:latest" in {model.id for model in done.models or ()}
        assert (await ask(driver, "phi4")).text == WORDS
        fractions = [report.fraction for report in driver.progress if report.fraction is not None]
        assert fractions == sorted(fractions)
        assert fractions[0] < 0.5
        assert fractions[-1] == 1.0
        assert {report.stage for report in driver.progress} == {"model"}
        assert "pulling phi4" in driver.progress[0].detail
    assert sum(exchange.path == "/api/pull" for exchange in upstream.exchanges) == 1


async def test_a_model_that_is_there_is_not_pulled_again(upstream: Upstream) -> None:
    async with Driver(provider_class("ollama")) as driver:
        await load(driver, upstream, LLAMA, pull=True)
    assert all(exchange.path != "/api/pull" for exchange in upstream.exchanges)


async def test_a_pull_that_is_cancelled_stops(upstream: Upstream, program: Ollama) -> None:
    async with Driver(provider_class("ollama")) as driver:
        options: dict[str, OptionValue] = {"base_url": upstream.url, "pull": True}
        message = Load(id=0, ctx=1, options=options, preload_model_id="phi4;fail=stall;after=3")
        loading = driver.start(message)
        number = 1 + len(INSTALLED)
        async with bounded():
            assert (await upstream.exchange(number)).path == "/api/pull"
        loading.cancel()
        assert (await failure(loading)).error is Code.INTERRUPT
        assert await ended(upstream, number) in ("eof", "reset")
    assert "phi4:latest" not in program.have


@pytest.mark.parametrize(
    ("model", "error", "reason"),
    [
        ("nobody", Code.INVALID_MODEL, None),
        ("phi4;fail=no-end", Code.UNEXPECTED, "truncated"),
        ("phi4;fail=cut", Code.UNEXPECTED, "truncated"),
        ("phi4;fail=broken-json", Code.UNEXPECTED, "truncated"),
        ("phi4;fail=error-event", Code.UNEXPECTED, None),
        ("phi4;fail=endless-event", Code.UNEXPECTED, None),
        ("phi4;fail=endless-error", Code.UNEXPECTED, "provider_down"),
    ],
)
async def test_a_pull_that_fails_fails_the_load(
    upstream: Upstream, model: str, error: Code, reason: str | None
) -> None:
    async with Driver(provider_class("ollama")) as driver:
        failed = await refused(driver, upstream, model, {"pull": True})
    assert (failed.error, failed.reason) == (error, reason)


@pytest.mark.parametrize("frame", ["bytes", "crlf", "comments", "unterminated"])
async def test_a_pull_is_followed_however_it_is_framed(upstream: Upstream, program: Ollama, frame: str) -> None:
    async with Driver(provider_class("ollama")) as driver:
        failed = await refused(driver, upstream, f"phi4;frame={frame};error=internal", {"pull": True})
    assert failed.reason == "provider_down", "the pull was fine; the preload after it was not"
    assert "phi4:latest" in program.have


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_ctx", 0),
        ("num_ctx", -5),
        ("num_ctx", "many"),
        ("keep_alive", "soon"),
        ("keep_alive", "10 m"),
        ("base_url", "nowhere"),
        ("base_url", None),
    ],
)
async def test_an_option_that_cannot_be_right_is_named(upstream: Upstream, option: str, value: OptionValue) -> None:
    async with Driver(provider_class("ollama")) as driver:
        failed = await refused(driver, upstream, options={option: value})
    assert failed.error is Code.UNEXPECTED
    assert option in failed.message
    assert not upstream.exchanges


@pytest.mark.parametrize(
    ("given", "sent"), [("600", 600), ("-1", -1), ("0", 0), ("1h30m", "1h30m"), (" 10m ", "10m"), ("", None)]
)
def test_a_keep_alive_is_a_duration_or_a_number(given: str, sent: object) -> None:
    assert read_settings({"base_url": "http://h", "keep_alive": given}).keep_alive == sent


@pytest.mark.parametrize("url", ["http://box:11434", "http://box:11434/api", "http://box:11434/api/"])
def test_an_address_may_have_the_path_of_the_api(url: str) -> None:
    assert read_settings({"base_url": url}).base_url == "http://box:11434"


@pytest.mark.parametrize("url", ["http://ollama.com:11434", "https://ollama.com", "http://ollama.com/api"])
def test_the_hosted_service_is_never_asked_in_the_clear(url: str) -> None:
    assert read_settings({"base_url": url}).base_url == "https://ollama.com"


async def test_a_provider_that_is_closed_says_so() -> None:
    provider = Provider()
    await provider.close()
    with pytest.raises(ProviderError, match="not loaded"):
        await provider.models()


def test_the_manifest_names_what_the_provider_reads() -> None:
    declared = read_manifest(WORKERS / "ollama").declared
    assert {name: option.type for name, option in declared.options.items()} == {
        "base_url": "host",
        "keep_alive": "string",
        "num_ctx": "integer",
        "pull": "boolean",
    }
    assert [name for name, option in declared.options.items() if option.identity] == ["base_url"]
    assert declared.options["base_url"].env == "OLLAMA_HOST"
    assert declared.key.need is KeyNeed.OPTIONAL
