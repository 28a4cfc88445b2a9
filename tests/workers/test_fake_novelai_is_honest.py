"""The official client is content with the fake NovelAI's chat route; the older route keeps to the published schema."""

import json
from collections.abc import AsyncIterator

import aiohttp
import openai
import pytest
from fakes.upstream.framing import FRAMES
from fakes.upstream.novelai_api import CHAT_MODELS, GOOD_TOKEN, SCROLL_TOKEN, VOCABULARIES, NovelAI
from fakes.upstream.scenario import SAYINGS
from fakes.upstream.server import Upstream, running
from openai import AsyncOpenAI
from support.waiting import WAIT_S, bounded

WORDS = "".join(SAYINGS["words"])
BEYOND_THE_SDK = {
    "byte-order-mark": "takes the mark for a part of the first field's name",
    "halved": "gives lone surrogates, whose joining it leaves to its user",
}


@pytest.fixture
def service() -> NovelAI:
    return NovelAI()


@pytest.fixture
async def upstream(service: NovelAI) -> AsyncIterator[Upstream]:
    async with running(service) as upstream:
        yield upstream


def connect(upstream: Upstream, token: str = GOOD_TOKEN) -> AsyncOpenAI:
    return AsyncOpenAI(api_key=token, base_url=upstream.url + "/oa/v1", max_retries=0, timeout=WAIT_S)


@pytest.fixture
async def client(upstream: Upstream) -> AsyncIterator[AsyncOpenAI]:
    async with connect(upstream) as client:
        yield client


async def streamed(client: AsyncOpenAI, model: str) -> tuple[str, str | None]:
    """The text and the finish reason of a streamed answer."""
    text, reason = "", None
    async with bounded():
        stream = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Hi"}], stream=True, max_tokens=50
        )
        async with stream:
            async for chunk in stream:
                for choice in chunk.choices:
                    text += (choice.delta.content if choice.delta else None) or ""
                    reason = choice.finish_reason or reason
                assert chunk.usage is None
    return text, reason


async def test_the_list_of_models_is_one(client: AsyncOpenAI) -> None:
    async with bounded():
        assert tuple([model.id async for model in client.models.list()]) == CHAT_MODELS


@pytest.mark.parametrize("frame", [frame for frame in FRAMES if frame not in BEYOND_THE_SDK])
async def test_a_stream_is_one_however_it_is_framed(client: AsyncOpenAI, frame: str) -> None:
    assert await streamed(client, f"glm-4-6;say=unicode;frame={frame}") == ("".join(SAYINGS["unicode"]), "stop")


async def test_an_answer_that_is_not_streamed_has_token_ids_and_no_text(client: AsyncOpenAI) -> None:
    async with bounded():
        answer = await client.chat.completions.create(model="glm-4-6", messages=[{"role": "user", "content": "Hi"}])
    assert answer.choices[0].message.content == ""
    assert answer.choices[0].to_dict()["token_ids"]


async def test_a_raw_text_is_completed(client: AsyncOpenAI) -> None:
    async with bounded():
        stream = await client.completions.create(model="glm-4-6", prompt="Once", stream=True, max_tokens=3)
        assert "".join([chunk.choices[0].text or "" async for chunk in stream]) == "Hello there,"


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("kayra-v1", openai.BadRequestError),
        ("nobody", openai.BadRequestError),
        ("glm-4-6;error=payment", openai.APIStatusError),
        ("glm-4-6;error=edge", openai.PermissionDeniedError),
        ("glm-4-6;error=internal", openai.InternalServerError),
        ("glm-4-6;error=subscription", openai.ConflictError),
    ],
)
async def test_an_error_is_met_as_the_class_of_its_kind(
    client: AsyncOpenAI, model: str, error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error):
        await streamed(client, model)


async def test_a_model_above_the_plan_is_refused_by_its_name(upstream: Upstream) -> None:
    async with connect(upstream, SCROLL_TOKEN) as client:
        with pytest.raises(openai.BadRequestError, match="not allowed for current user tier 'Scroll'"):
            await streamed(client, "xialong-v1")
        assert await streamed(client, "glm-4-6") == (WORDS, "stop")


async def test_a_wrong_token_is_refused(upstream: Upstream) -> None:
    async with connect(upstream, "pst-wrong") as client, bounded():
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_one_generation_at_a_time(client: AsyncOpenAI, upstream: Upstream) -> None:
    async with bounded():
        stream = await client.chat.completions.create(
            model="glm-4-6;fail=stall", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        await anext(aiter(stream))
        with pytest.raises(openai.RateLimitError, match="Concurrent generation is locked"):
            await streamed(client, "glm-4-6")
        await stream.close()
        await upstream.exchanges[0].ended.wait()
        assert await streamed(client, "glm-4-6") == (WORDS, "stop")


@pytest.mark.parametrize("agent", ["", "Python-urllib/3.11"])
async def test_a_caller_without_a_name_is_blocked_at_the_edge(upstream: Upstream, agent: str) -> None:
    headers = {"Authorization": f"Bearer {GOOD_TOKEN}", "User-Agent": agent}
    async with aiohttp.ClientSession(headers=headers) as session, bounded():
        response = await session.get(upstream.url + "/oa/v1/models")
        assert (response.status, response.content_type) == (403, "text/html")


GOOD = {"max_length": 40, "min_length": 1, "force_emotion": False, "use_string": True, "temperature": 1.0}


async def older(upstream: Upstream, route: str, body: dict[str, object]) -> tuple[int, str]:
    """Status and body of a request to the older route."""
    headers = {"Authorization": f"Bearer {GOOD_TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as session, bounded():
        response = await session.post(upstream.url + route, json=body)
        return response.status, await response.text()


@pytest.mark.parametrize("model", VOCABULARIES)
async def test_the_older_route_sends_a_token_an_event_and_says_which_is_the_final_one(
    upstream: Upstream, model: str
) -> None:
    body: dict[str, object] = {"input": "Hi", "model": model, "parameters": GOOD}
    status, text = await older(upstream, "/ai/generate-stream", body)
    assert status == 200
    events = [block.splitlines() for block in text.strip().split("\n\n")]
    assert all(lines[0] == "event: newToken" and lines[1] == f"id: {i}" for i, lines in enumerate(events))
    data = [json.loads(lines[2].removeprefix("data: ")) for lines in events]
    assert all(set(token) == {"token", "ptr", "final", "logprobs"} for token in data)
    assert [token["final"] for token in data] == [False] * (len(data) - 1) + [True]
    assert "".join(token["token"] for token in data) == WORDS


async def test_the_older_route_in_one_piece(upstream: Upstream) -> None:
    status, text = await older(upstream, "/ai/generate", {"input": "Hi", "model": "kayra-v1", "parameters": GOOD})
    assert (status, json.loads(text)) == (200, {"output": WORDS})


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 0.05},
        {"temperature": 101},
        {"max_length": 0},
        {"max_length": 2049},
        {"min_length": None},
        {"order": [0, 1, 2, 3, 4, 5, 6]},
        {"order": [11]},
        {"stop_sequences": [[65535]]},
        {"stop_sequences": [85]},
        {"repetition_penalty_range": 8193},
        {"num_logprobs": 31},
        {"magic": 1},
    ],
)
async def test_what_the_schema_forbids_the_fake_refuses(upstream: Upstream, parameters: dict[str, object]) -> None:
    merged = {name: value for name, value in {**GOOD, **parameters}.items() if value is not None}
    body: dict[str, object] = {"input": "Hi", "model": "kayra-v1", "parameters": merged}
    status, text = await older(upstream, "/ai/generate-stream", body)
    assert status in (400, 500)
    assert set(json.loads(text)) == {"statusCode", "message"}


@pytest.mark.parametrize(
    "body",
    [
        {"input": "Hi", "model": "glm-4-6", "parameters": GOOD},
        {"input": "x" * 40001, "model": "kayra-v1", "parameters": GOOD},
        {"input": "Hi", "model": "kayra-v1"},
        {"input": "Hi", "parameters": GOOD},
        {"input": "Hi", "model": "kayra-v1", "parameters": GOOD, "stream": True},
    ],
)
async def test_a_request_of_another_shape_is_refused(upstream: Upstream, body: dict[str, object]) -> None:
    status, _ = await older(upstream, "/ai/generate-stream", body)
    assert status == 400


@pytest.mark.parametrize(
    "field",
    [
        {"magic": 1},
        {"tools": []},
        {"stop": [""]},
        {"messages": []},
        {"messages": [{"role": "user", "content": "Hi", "name": "Dev"}]},
        {"messages": [{"role": "tool", "content": "Hi"}]},
    ],
)
async def test_what_the_chat_route_has_not_the_fake_refuses(client: AsyncOpenAI, field: dict[str, object]) -> None:
    request = {"model": "glm-4-6", "messages": [{"role": "user", "content": "Hi"}], **field}
    with pytest.raises(openai.BadRequestError):
        async with bounded():
            await client.post("/chat/completions", body=request, cast_to=object)


async def test_a_lock_lingers_as_often_as_asked(client: AsyncOpenAI, service: NovelAI) -> None:
    service.linger = 1
    with pytest.raises(openai.RateLimitError):
        await streamed(client, "glm-4-6")
    assert await streamed(client, "glm-4-6") == (WORDS, "stop")
