"""The official SDK, which these services' own documentation uses, is content with their fakes."""

import openai
import pytest
from fakes.upstream import compatible_api, deepseek_api
from fakes.upstream.compatible_api import XAI, Compatible, Mistral, Open, OpenRouter
from fakes.upstream.deepseek_api import DeepSeek
from fakes.upstream.framing import FRAMES
from fakes.upstream.openai_style import OpenAIStyle
from fakes.upstream.scenario import SAYINGS
from fakes.upstream.server import Upstream, running
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk
from support.waiting import WAIT_S, bounded

BEYOND_THE_SDK = ("byte-order-mark", "halved")
SERVICES: list[tuple[type[OpenAIStyle], str, str]] = [
    (DeepSeek, "", "deepseek-flash"),
    (DeepSeek, "/v1", "deepseek-v4-pro"),
    (Compatible, "/v1", "local"),
    (Open, "/v1", "local"),
    (OpenRouter, "/api/v1", "a/b"),
    (XAI, "/v1", "grok"),
]


def connect(upstream: Upstream, path: str, key: str) -> AsyncOpenAI:
    return AsyncOpenAI(api_key=key, base_url=upstream.url + path, max_retries=0, timeout=WAIT_S)


async def chunks(client: AsyncOpenAI, model: str, extra: dict[str, object] | None = None) -> list[ChatCompletionChunk]:
    async with bounded():
        stream = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Hi"}], stream=True, extra_body=extra
        )
        async with stream:
            return [chunk async for chunk in stream]


def text_of(said: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in said for choice in chunk.choices)


@pytest.mark.parametrize(("api", "path", "model"), SERVICES)
async def test_list_and_streams_are_read_however_they_are_framed(api: type[OpenAIStyle], path: str, model: str) -> None:
    async with running(api()) as upstream, connect(upstream, path, api.key) as client:
        async with bounded():
            assert [model.id async for model in client.models.list()] == list(api.models)
        for frame in FRAMES:
            if frame not in BEYOND_THE_SDK:
                said = await chunks(client, f"{model};say=unicode;frame={frame}")
                assert text_of(said) == "".join(SAYINGS["unicode"])


@pytest.mark.parametrize(("api", "path", "model"), SERVICES)
async def test_a_whole_answer_is_one(api: type[OpenAIStyle], path: str, model: str) -> None:
    async with running(api()) as upstream, connect(upstream, path, api.key) as client, bounded():
        answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}])
    assert answer.choices[0].message.content == "".join(SAYINGS["words"])


@pytest.mark.parametrize(
    ("api", "path", "expected"),
    [
        (DeepSeek, "", openai.AuthenticationError),
        (Compatible, "/v1", openai.AuthenticationError),
        (Mistral, "/v1", openai.AuthenticationError),
        (XAI, "/v1", openai.BadRequestError),
    ],
)
async def test_a_wrong_key_is_refused_in_the_way_of_each(
    api: type[OpenAIStyle], path: str, expected: type[openai.APIStatusError]
) -> None:
    async with running(api()) as upstream, connect(upstream, path, "sk-wrong-0123456789") as client, bounded():
        with pytest.raises(expected):
            await client.models.list()


async def test_openrouter_lists_for_anybody_and_answers_with_good_keys_only() -> None:
    async with running(OpenRouter()) as upstream, connect(upstream, "/api/v1", "sk-wrong") as client:
        async with bounded():
            assert [model.id async for model in client.models.list()] == ["a/b"]
            with pytest.raises(openai.AuthenticationError):
                await client.get("/key", cast_to=object)
        with pytest.raises(openai.AuthenticationError):
            await chunks(client, "a/b")


async def test_deepseek_thinks_apart_from_the_text_unless_told_not_to() -> None:
    async with running(DeepSeek()) as upstream, connect(upstream, "", deepseek_api.GOOD_KEY) as client:
        for kind, thoughts in (("enabled", ["Hm", ", so"]), ("disabled", [])):
            said = await chunks(client, "deepseek-flash;waits=5", {"thinking": {"type": kind}})
            assert text_of(said) == "".join(SAYINGS["words"])
            deltas = [choice.delta.model_extra or {} for chunk in said for choice in chunk.choices]
            assert [delta["reasoning_content"] for delta in deltas if delta.get("reasoning_content")] == thoughts


@pytest.mark.parametrize(
    ("error", "status"), [("payment", 402), ("unprocessable", 422), ("risk", 400), ("rate", 429), ("overloaded", 503)]
)
async def test_an_error_of_deepseek_has_its_status(error: str, status: int) -> None:
    async with running(DeepSeek()) as upstream, connect(upstream, "", deepseek_api.GOOD_KEY) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await chunks(client, f"deepseek-flash;error={error}")
    assert caught.value.status_code == status


@pytest.mark.parametrize(
    "field",
    [
        {"model": "deepseek-chat"},
        {"max_completion_tokens": 5},
        {"max_tokens": 1_000_000},
        {"temperature": 2.5},
        {"stop": list("abcdefghijklmnopq")},
        {"messages": [{"role": "function", "content": "Hi", "name": "x"}]},
    ],
)
async def test_what_deepseek_refuses_the_fake_refuses(field: dict[str, object]) -> None:
    request = {"model": "deepseek-flash", "messages": [{"role": "user", "content": "Hi"}], **field}
    async with running(DeepSeek()) as upstream, connect(upstream, "", deepseek_api.GOOD_KEY) as client, bounded():
        with pytest.raises((openai.BadRequestError, openai.UnprocessableEntityError)):
            await client.post("/chat/completions", body=request, cast_to=object)


async def test_mistrals_content_is_a_list_where_it_thinks() -> None:
    async with running(Mistral()) as upstream, connect(upstream, "/v1", compatible_api.GOOD_KEY) as client:
        said = await chunks(client, "magistral")
    parts = [choice.delta.content for chunk in said for choice in chunk.choices]
    lists: list[object] = [part for part in parts if isinstance(part, list)]
    assert len(lists) == 2


async def test_raw_text_is_completed_as_text() -> None:
    async with running(Open()) as upstream, connect(upstream, "/v1", "none") as client, bounded():
        stream = await client.completions.create(model="local", prompt="Once", stream=True, max_tokens=5)
        texts = [choice.text async for chunk in stream for choice in chunk.choices]
    assert "".join(texts) == "".join(SAYINGS["words"])


async def test_an_error_in_the_middle_of_a_stream_is_met_as_one() -> None:
    async with running(Open()) as upstream, connect(upstream, "/v1", "none") as client:
        with pytest.raises(openai.APIError, match="Rate limit exceeded"):
            await chunks(client, "local;fail=openrouter-error")
