"""The official SDK is content with the fake OpenAI, and meets every failure there as its own class.

What a test of ours proves against the fake is worth as much as the fake resembles the service.
"""

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator

import openai
import pytest
from fakes.upstream.framing import FRAMES
from fakes.upstream.openai_api import GOOD_KEY, MODELS, RESTRICTED_KEY
from fakes.upstream.scenario import SAYINGS
from fakes.upstream.server import Upstream
from openai import AsyncOpenAI
from support.upstream import upstream_process
from support.waiting import WAIT_S, bounded

WORDS = "".join(SAYINGS["words"])
# Framings that are right and that the SDK cannot read, each with its reason.
BEYOND_THE_SDK = {
    "byte-order-mark": "takes the mark for a part of the first field's name",
    "halved": "gives lone surrogates, whose joining it leaves to its user",
}


@pytest.fixture
async def client(openai_upstream: Upstream) -> AsyncIterator[AsyncOpenAI]:
    async with connect(openai_upstream) as client:
        yield client


def connect(upstream: Upstream, key: str = GOOD_KEY) -> AsyncOpenAI:
    return AsyncOpenAI(api_key=key, base_url=upstream.url + "/v1", max_retries=0, timeout=WAIT_S)


async def streamed(client: AsyncOpenAI, model: str) -> tuple[str, str | None]:
    """The text and the finish reason of a streamed answer."""
    text, reason = "", None
    async with bounded():
        stream = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Hi"}], stream=True, max_completion_tokens=50
        )
        async with stream:
            async for chunk in stream:
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    reason = choice.finish_reason or reason
    return text, reason


async def test_the_list_of_models_is_one(client: AsyncOpenAI) -> None:
    async with bounded():
        assert {model.id: model.owned_by async for model in client.models.list()} == MODELS


async def test_an_answer_in_one_piece_is_one(client: AsyncOpenAI) -> None:
    async with bounded():
        answer = await client.chat.completions.create(
            model="gpt-4o;say=unicode", messages=[{"role": "user", "content": "Hi"}], stop=["a", "b"], temperature=0.3
        )
    assert answer.choices[0].message.content == "".join(SAYINGS["unicode"])
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(SAYINGS["unicode"])


@pytest.mark.parametrize("frame", [frame for frame in FRAMES if frame not in BEYOND_THE_SDK])
async def test_a_stream_is_one_however_it_is_framed(client: AsyncOpenAI, frame: str) -> None:
    assert await streamed(client, f"gpt-4o-mini;say=unicode;frame={frame}") == ("".join(SAYINGS["unicode"]), "stop")


async def test_the_usage_comes_in_a_chunk_without_choices(client: AsyncOpenAI) -> None:
    async with bounded():
        stream = await client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [16]
    assert chunks[-1].choices == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("policy", openai.BadRequestError),
        ("context", openai.BadRequestError),
        ("country", openai.PermissionDeniedError),
        ("edge", openai.PermissionDeniedError),
        ("not-chat", openai.NotFoundError),
        ("conflict", openai.ConflictError),
        ("unprocessable", openai.UnprocessableEntityError),
        ("rate", openai.RateLimitError),
        ("quota", openai.RateLimitError),
        ("internal", openai.InternalServerError),
        ("bad-gateway", openai.InternalServerError),
        ("overloaded", openai.InternalServerError),
        ("payment", openai.APIStatusError),
        ("request-timeout", openai.APIStatusError),
    ],
)
async def test_an_error_is_met_as_the_class_of_its_kind(
    client: AsyncOpenAI, error: str, expected: type[openai.APIStatusError]
) -> None:
    with pytest.raises(expected):
        await streamed(client, f"gpt-4o;error={error}")


async def test_an_error_has_its_code_parameter_and_waiting_time(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as limited:
        await streamed(client, "gpt-4o;error=rate")
    assert limited.value.code == "rate_limit_exceeded"
    assert limited.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.BadRequestError) as refused:
        async with bounded():
            await client.chat.completions.create(
                model="gpt-5.5", messages=[{"role": "user", "content": "Hi"}], temperature=0.5
            )
    assert (refused.value.param, refused.value.code) == ("temperature", "unsupported_value")


@pytest.mark.parametrize("fail", ["error-event", "error-named"])
async def test_an_error_inside_a_stream_is_met_as_one(client: AsyncOpenAI, fail: str) -> None:
    with pytest.raises(openai.APIError, match="had an error"):
        await streamed(client, f"gpt-4o;fail={fail}")


@pytest.mark.parametrize("fail", ["cut", "close"])
async def test_a_cut_connection_is_met_as_one(client: AsyncOpenAI, fail: str) -> None:
    with pytest.raises(openai.APIConnectionError):
        await streamed(client, f"gpt-4o;fail={fail}")


async def test_broken_json_is_met_as_such(client: AsyncOpenAI) -> None:
    with pytest.raises(json.JSONDecodeError):
        await streamed(client, "gpt-4o;fail=broken-json")


async def test_a_stream_without_its_end_is_one_that_the_sdk_does_not_notice(client: AsyncOpenAI) -> None:
    assert await streamed(client, "gpt-4o;fail=no-end") == ("Hello there", None)


async def test_a_wrong_key_is_refused_with_its_ends_shown(openai_upstream: Upstream) -> None:
    async with connect(openai_upstream, "sk-wrong-key-0123456789") as client, bounded():
        with pytest.raises(openai.AuthenticationError, match=r"sk-wrong\*+6789") as caught:
            await client.models.list()
    assert caught.value.code == "invalid_api_key"


async def test_a_restricted_key_may_chat_and_not_list(openai_upstream: Upstream) -> None:
    async with connect(openai_upstream, RESTRICTED_KEY) as client:
        with pytest.raises(openai.PermissionDeniedError):
            async with bounded():
                await client.models.list()
        assert await streamed(client, "gpt-4o") == (WORDS, "stop")


async def test_an_unknown_model_is_not_found(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await streamed(client, "gpt-0")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ({"max_tokens": 5, "model": "o3"}, "max_tokens"),
        ({"stop": ["a"], "model": "o3"}, "stop"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, None),
        ({"temperature": 2.5}, "temperature"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, None),
        ({"magic": 1}, None),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "Hi"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "Hi", "name": "a b"}]}, "messages[0].name"),
    ],
)
async def test_what_the_service_refuses_the_fake_refuses(
    client: AsyncOpenAI, field: dict[str, object], param: str | None
) -> None:
    request = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], **field}
    with pytest.raises(openai.BadRequestError) as caught:
        async with bounded():
            await client.post("/chat/completions", body=request, cast_to=object)
    assert caught.value.param == param


async def test_the_moment_a_client_leaves_is_seen(client: AsyncOpenAI, openai_upstream: Upstream) -> None:
    async with bounded():
        stream = await client.chat.completions.create(
            model="gpt-4o;fail=stall", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        await anext(aiter(stream))
        exchange = openai_upstream.exchanges[0]
        assert exchange.end == ""
        await stream.close()
        await exchange.ended.wait()
    assert exchange.end in ("eof", "reset")


async def test_what_is_no_http_is_answered_400(openai_upstream: Upstream) -> None:
    for request in (b"nonsense\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        async with bounded():
            reader, writer = await asyncio.open_connection("127.0.0.1", openai_upstream.port)
            writer.write(request)
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def test_as_a_process_it_tells_what_it_has_seen() -> None:
    with upstream_process() as url:
        request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {GOOD_KEY}"})
        with urllib.request.urlopen(request, timeout=WAIT_S) as response:
            assert response.status == 200
            response.read()
        with urllib.request.urlopen(f"{url}/__log?ended=0", timeout=WAIT_S) as response:
            (record,) = json.loads(response.read())
    assert (record["method"], record["target"], record["end"]) == ("GET", "/v1/models", "complete")
