"""ollama through the whole module: its own environment, its own process, a client over the socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fakes.upstream.ollama_api import GOOD_KEY, INSTALLED, Ollama
from fakes.upstream.server import Upstream, running
from support.contract import Described, ended
from support.module_contract import WORDS, ModuleContract
from support.running_module import running_module
from support.waiting import bounded

from waifu_client import Client, connect
from waifu_client.errors import InvalidModel, UnexpectedError
from waifu_client.protocol import LoadProgress

PHI = "phi4:latest"


pytestmark = pytest.mark.keyless


class TestInTheModule(ModuleContract):
    described = Described("ollama", Ollama, GOOD_KEY, "llama3.2", path="")
    models = INSTALLED


@pytest.fixture
def program() -> Ollama:
    return Ollama()


@pytest.fixture
async def upstream(program: Ollama) -> AsyncIterator[Upstream]:
    async with running(program) as upstream:
        yield upstream


@pytest.fixture
async def llm(
    home: Path, installed: Callable[..., None], upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    """A client of a module whose user has set OLLAMA_HOST as for the program itself."""
    installed("ollama")
    monkeypatch.setenv("OLLAMA_HOST", f"0.0.0.0:{upstream.port}")
    async with running_module(home) as module, connect(module.url) as llm:
        yield llm


async def test_it_is_found_where_ollama_host_says_and_without_a_key(llm: Client, upstream: Upstream) -> None:
    async with bounded():
        await llm.load("ollama")
        assert (await llm.generate("Hi")).text == WORDS, "the first model of the list answers where none is named"
        details = (await llm.models()).details
    assert (details["qwen3:4b"].kind, details["qwen3:4b"].context) == ("chat", 40960)
    assert all("authorization" not in exchange.headers for exchange in upstream.exchanges)


async def test_a_load_may_say_in_short_where_it_is(llm: Client, upstream: Upstream) -> None:
    async with bounded():
        for base_url in (f":{upstream.port}", f"localhost:{upstream.port}", upstream.url):
            await llm.load("ollama", base_url=base_url)
            assert (await llm.generate("Hi", model_id="llama3.2")).text == WORDS


async def test_a_program_that_does_not_run_is_told_with_what_to_do(llm: Client) -> None:
    async with bounded():
        with pytest.raises(UnexpectedError, match="ollama serve") as caught:
            await llm.load("ollama", base_url="127.0.0.1:9")
    assert caught.value.reason == "provider_down"


async def test_a_model_is_pulled_on_request_with_progress_and_leaves_the_memory_with_the_module(
    home: Path, installed: Callable[..., None], upstream: Upstream, program: Ollama
) -> None:
    installed("ollama")
    heard: list[LoadProgress] = []
    async with running_module(home) as module, connect(module.url) as llm, bounded():
        with pytest.raises(InvalidModel, match="ollama pull phi4"):
            await llm.load("ollama", base_url=upstream.url, preload_model_id="phi4")
        assert PHI not in program.have
        await llm.load(
            "ollama",
            base_url=upstream.url,
            preload_model_id="phi4",
            pull=True,
            num_ctx=4096,
            keep_alive="24h",
            on_progress=heard.append,
        )
        assert (program.memory, program.contexts) == ({PHI: "24h"}, {PHI: 4096})
        assert (await llm.generate("Hi", model_id="phi4")).text == WORDS
    fractions = [step.fraction for step in heard if step.stage == "model" and step.fraction is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert program.memory == {}


async def test_a_raw_text_is_completed(llm: Client) -> None:
    async with bounded():
        await llm.load("ollama")
        assert (await llm.generate(prompt="Once upon", model_id="llama3.2;say=echo")).text == "Once upon"


async def test_a_pull_can_be_interrupted(llm: Client, upstream: Upstream, program: Ollama) -> None:
    number = 1 + len(INSTALLED)
    loading = asyncio.ensure_future(llm.load("ollama", preload_model_id="phi4;fail=stall;after=3", pull=True))
    async with bounded():
        assert (await upstream.exchange(number)).path == "/api/pull"
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert await ended(upstream, number) in ("eof", "reset")
    assert PHI not in program.have
