"""Groq's own SDK is content with the fake Groq, and meets every failure there as its own class."""

from collections.abc import AsyncIterator

import groq
import httpx
import pytest
from fakes.upstream.framing import FRAMES
from fakes.upstream.groq_api import APART, GOOD_KEY, NO_CHAT, RETIRED, THINKER, Groq
from fakes.upstream.scenario import SAYINGS
from fakes.upstream.server import Upstream, running
from groq import AsyncGroq
from groq.types.chat import ChatCompletionChunk
from support.waiting import WAIT_S, bounded

MODEL = "llama-3.3-70b-versatile"
# Framings that are right and that the SDK cannot read, each with its reason.
BEYOND_THE_SDK = {
    "byte-order-mark": "takes the mark for a part of the first field's name",
    "halved": "gives lone surrogates, whose joining it leaves to its user",
    "fields": "takes an event with a name for something that is no chunk",
}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running(Groq()) as upstream:
        yield upstream


def connect(upstream: Upstream, key: str = GOOD_KEY) -> AsyncGroq:
    """Its base URL is a host: the SDK adds the path by itself."""
    return AsyncGroq(api_key=key, base_url=upstream.url, max_retries=0, timeout=WAIT_S)


@pytest.fixture
async def client(upstream: Upstream) -> AsyncIterator[AsyncGroq]:
    async with connect(upstream) as client:
        yield client


async def chunks(client: AsyncGroq, model: str) -> list[ChatCompletionChunk]:
    async with bounded():
        stream = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Hi"}], stream=True, max_completion_tokens=50
        )
        async with stream:
            return [chunk async for chunk in stream]


def text_of(said: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in said for choice in chunk.choices)


async def test_the_list_of_models_is_one(client: AsyncGroq) -> None:
    async with bounded():
        listed = await client.models.list()
    assert [model.id for model in listed.data] == list(Groq.models)
    assert [model.id for model in listed.data if not model.active] == [RETIRED]  # type: ignore[attr-defined]  # untyped


@pytest.mark.parametrize("frame", [frame for frame in FRAMES if frame not in BEYOND_THE_SDK])
async def test_a_stream_is_one_however_it_is_framed(client: AsyncGroq, frame: str) -> None:
    said = await chunks(client, f"{MODEL};say=unicode;frame={frame}")
    assert text_of(said) == "".join(SAYINGS["unicode"])
    assert [choice.finish_reason for chunk in said for choice in chunk.choices][-1] == "stop"


async def test_its_own_additions_are_where_the_sdk_looks_for_them(client: AsyncGroq) -> None:
    said = await chunks(client, MODEL)
    first, last = said[0].x_groq, said[-1].x_groq
    assert first is not None
    assert first.id == "req_1"
    assert last is not None
    assert last.usage is not None
    assert last.usage.total_tokens == 16
    assert [chunk.x_groq.error for chunk in await chunks(client, f"{MODEL};fail=x-groq-error") if chunk.x_groq][
        -1:
    ] == ["over capacity"], "which the SDK hands on as if nothing were wrong"


async def test_thinking_is_in_the_text_or_apart_from_it_as_the_model_does_it(client: AsyncGroq) -> None:
    assert text_of(await chunks(client, THINKER)).startswith("<think>\nHm, so\n</think>")
    said = await chunks(client, APART)
    assert text_of(said) == "".join(SAYINGS["words"])
    assert "Hm" in [choice.delta.reasoning for chunk in said for choice in chunk.choices]
    async with bounded():
        stream = await client.chat.completions.create(
            model=THINKER, messages=[{"role": "user", "content": "Hi"}], stream=True, reasoning_format="hidden"
        )
        assert text_of([chunk async for chunk in stream]) == "".join(SAYINGS["words"])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("context", groq.BadRequestError),
        ("restricted", groq.BadRequestError),
        ("denied", groq.PermissionDeniedError),
        ("too-large", groq.APIStatusError),
        ("unprocessable", groq.UnprocessableEntityError),
        ("rate", groq.RateLimitError),
        ("capacity", groq.APIStatusError),
        ("cancelled", groq.APIStatusError),
        ("internal", groq.InternalServerError),
        ("bad-gateway", groq.InternalServerError),
    ],
)
async def test_an_error_is_met_as_the_class_of_its_kind(
    client: AsyncGroq, error: str, expected: type[groq.APIStatusError]
) -> None:
    with pytest.raises(expected):
        await chunks(client, f"{MODEL};error={error}")


@pytest.mark.parametrize(
    ("model", "expected", "code"),
    [
        ("llama-0", groq.NotFoundError, "model_not_found"),
        (RETIRED, groq.BadRequestError, "model_decommissioned"),
        (NO_CHAT, groq.BadRequestError, None),
    ],
)
async def test_a_model_is_refused_with_its_code(
    client: AsyncGroq, model: str, expected: type[groq.APIStatusError], code: str | None
) -> None:
    with pytest.raises(expected) as caught:
        await chunks(client, model)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"].get("code") == code


@pytest.mark.parametrize(
    "field",
    [
        {"logprobs": True},
        {"n": 2},
        {"stop": ["a", "b", "c", "d", "e"]},
        {"temperature": 2.5},
        {"reasoning_format": "hidden"},
        {"stream_options": {"include_usage": True}},
        {"messages": [{"role": "user", "content": "Hi", "name": "dev"}]},
        {"messages": [{"role": "wizard", "content": "Hi"}]},
    ],
)
async def test_what_the_service_refuses_the_fake_refuses(client: AsyncGroq, field: dict[str, object]) -> None:
    request = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], **field}
    with pytest.raises(groq.BadRequestError):
        async with bounded():
            await client.post("/openai/v1/chat/completions", body=request, cast_to=object)


async def test_a_wrong_key_is_refused(upstream: Upstream) -> None:
    async with connect(upstream, "gsk_wrong") as client, bounded():
        with pytest.raises(groq.AuthenticationError):
            await client.models.list()


async def test_a_cut_connection_is_met_as_one(client: AsyncGroq) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await chunks(client, f"{MODEL};fail=close")
