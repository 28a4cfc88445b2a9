"""The official client is content with the fake Ollama, and meets every failure there as its own class."""

import json
from collections.abc import AsyncIterator

import ollama
import pytest
from fakes.upstream.framing import FRAMES
from fakes.upstream.ollama_api import GOOD_KEY, INSTALLED, LIBRARY, Ollama
from fakes.upstream.scenario import SAYINGS
from fakes.upstream.server import Upstream, running
from support.waiting import WAIT_S, bounded

WORDS = "".join(SAYINGS["words"])
HI = [{"role": "user", "content": "Hi"}]
# Framings that are right and that the client cannot read, each with its reason.
BEYOND_THE_CLIENT = {
    "cr": "splits lines at a CR, which JSON takes for a blank",
    "comments": "takes an empty line for JSON",
}
# It also splits lines at U+0085 and U+2028, which a model may write: escapes are all it can be shown of those.
ESCAPED = "escaped"


@pytest.fixture
def program() -> Ollama:
    return Ollama()


@pytest.fixture
async def upstream(program: Ollama) -> AsyncIterator[Upstream]:
    async with running(program) as upstream:
        yield upstream


@pytest.fixture
async def client(upstream: Upstream) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(host=upstream.url, timeout=WAIT_S, headers={"Authorization": f"Bearer {GOOD_KEY}"})
    async with client._client:
        yield client


async def streamed(client: ollama.AsyncClient, model: str) -> tuple[str, str | None]:
    """The text and the finish reason of a streamed answer."""
    text, reason = "", None
    async with bounded():
        async for part in await client.chat(model, HI, stream=True, think=False, options={"num_predict": 50}):
            text += part.message.content or ""
            reason = part.done_reason or reason
    return text, reason


async def test_the_lists_are_lists(client: ollama.AsyncClient, program: Ollama) -> None:
    async with bounded():
        assert [model.model for model in (await client.list()).models] == list(INSTALLED)
        assert [model.size for model in (await client.list()).models] == [LIBRARY[name].size for name in INSTALLED]
        assert (await client.ps()).models == []
        await client.chat("llama3.2", HI)
        assert [model.model for model in (await client.ps()).models] == ["llama3.2:latest"]


async def test_a_model_tells_of_itself(client: ollama.AsyncClient) -> None:
    async with bounded():
        shown = await client.show("qwen3:4b")
    assert shown.capabilities == ["completion", "thinking"]
    assert (shown.modelinfo or {})["qwen3.context_length"] == 40960


async def test_an_answer_in_one_piece_is_one(client: ollama.AsyncClient) -> None:
    async with bounded():
        answer = await client.chat("llama3.2;say=unicode", HI, options={"stop": ["x"], "temperature": 0.3})
    assert answer.message.content == "".join(SAYINGS["unicode"])
    assert (answer.done, answer.done_reason, answer.eval_count) == (True, "stop", len(SAYINGS["unicode"]))


@pytest.mark.parametrize("frame", [frame for frame in FRAMES if frame not in BEYOND_THE_CLIENT])
async def test_a_stream_is_one_however_it_is_framed(client: ollama.AsyncClient, frame: str) -> None:
    assert await streamed(client, f"llama3.2;frame={frame}") == (WORDS, "stop")


async def test_the_characters_that_the_client_breaks_at_are_there(client: ollama.AsyncClient) -> None:
    assert await streamed(client, f"llama3.2;say=unicode;frame={ESCAPED}") == ("".join(SAYINGS["unicode"]), "stop")
    with pytest.raises(json.JSONDecodeError):
        await streamed(client, "llama3.2;say=unicode")


async def test_a_raw_text_is_completed(client: ollama.AsyncClient) -> None:
    async with bounded():
        parts = [part async for part in await client.generate("llama3.2;say=echo", "Once upon", raw=True, stream=True)]
    assert "".join(part.response or "" for part in parts) == "Once upon"
    assert parts[-1].done


async def test_a_length_is_kept(client: ollama.AsyncClient) -> None:
    async with bounded():
        answer = await client.chat("llama3.2", HI, options={"num_predict": 2})
    assert (answer.message.content, answer.done_reason) == ("Hello there", "length")


async def test_a_model_is_loaded_and_unloaded_by_empty_messages(client: ollama.AsyncClient, program: Ollama) -> None:
    async with bounded():
        assert (await client.chat("llama3.2", [], keep_alive="10m")).done_reason == "load"
        assert program.memory == {"llama3.2:latest": "10m"}
        assert (await client.chat("llama3.2", [], keep_alive=0)).done_reason == "unload"
    assert program.memory == {}


async def test_a_pull_tells_how_far_it_is(client: ollama.AsyncClient, program: Ollama) -> None:
    async with bounded():
        steps = [step async for step in await client.pull("phi4", stream=True)]
    assert steps[-1].status == "success"
    assert [step.completed for step in steps if step.digest == "sha256:big"] == [None, 2000, 4000, 6000, 8000]
    assert "phi4:latest" in program.have
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        async with bounded():
            _ = [step async for step in await client.pull("nobody", stream=True)]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("memory", 500), ("busy", 503), ("signin", 401), ("gone", 404), ("no-chat", 400), ("too-large", 413),
        ("rate", 429), ("bad-gateway", 502), ("edge", 403),
    ],
)  # fmt: skip
async def test_an_error_has_its_status(client: ollama.AsyncClient, error: str, status: int) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        await streamed(client, f"llama3.2;error={error}")
    assert caught.value.status_code == status


async def test_an_error_inside_a_stream_is_met_as_one(client: ollama.AsyncClient) -> None:
    with pytest.raises(ollama.ResponseError, match="unexpected EOF"):
        await streamed(client, "llama3.2;fail=error-event")


async def test_a_stream_without_its_end_is_one_that_the_client_does_not_notice(client: ollama.AsyncClient) -> None:
    assert await streamed(client, "llama3.2;fail=no-end") == ("Hello there", None)


@pytest.mark.parametrize("model", ["nobody", "qwen3", "phi4"])
async def test_an_unknown_model_is_not_found(client: ollama.AsyncClient, model: str) -> None:
    with pytest.raises(ollama.ResponseError, match="not found") as caught:
        await streamed(client, model)
    assert caught.value.status_code == 404


async def test_a_wrong_key_is_refused_and_none_is_fine(upstream: Upstream) -> None:
    for headers, good in (({"Authorization": "Bearer wrong"}, False), ({}, True)):
        client = ollama.AsyncClient(host=upstream.url, headers=headers)
        async with client._client, bounded():
            if good:
                assert (await client.list()).models
                continue
            with pytest.raises(ollama.ResponseError) as caught:
                await client.list()
            assert caught.value.status_code == 401


@pytest.mark.parametrize(
    "field",
    [
        {"options": {"magic": 1}},
        {"options": {"num_ctx": "many"}},
        {"options": {"stop": [""]}},
        {"options": {"temperature": "hot"}},
        {"keep_alive": "soon"},
        {"messages": [{"role": "function", "content": "Hi"}]},
        {"messages": [{"role": "user", "content": "Hi", "name": "Dev"}]},
        {"messages": [{"role": "user", "content": ["Hi"]}]},
        {"max_tokens": 5},
        {"model": "nomic-embed-text"},
        {"model": 5},
    ],
)
async def test_what_ollama_has_no_use_for_the_fake_refuses(
    client: ollama.AsyncClient, field: dict[str, object]
) -> None:
    request = {"model": "llama3.2", "messages": HI, **field}
    async with bounded():
        response = await client._client.post("/api/chat", json=request)
    assert response.status_code == 400


async def test_what_is_no_route_is_plain_text(client: ollama.AsyncClient) -> None:
    async with bounded():
        assert (await client._client.get("/api/version")).json() == {"version": "0.13.5"}
        response = await client._client.get("/v1/api/tags")
    assert (response.status_code, response.text) == (404, "404 page not found")
