"""The echo worker: in-process under the runtime's rules, and as a real process."""

import importlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import bounded
from support.worker_process import ECHO, make_seed, running

from waifu_worker.provider import Provider
from waifu_worker.testing import Driver, RequestFailed
from waifu_worker.wire import ChatMessage, Chunk, Code, Done, Generate, Load, Params, Usage


def echo_provider() -> type[Provider]:
    """The class as the runtime finds it; the worker's folder is on nobody's path."""
    sys.path.insert(0, str(ECHO.parent))
    try:
        provider: type[Provider] = importlib.import_module("waifu_echo").Provider
    finally:
        sys.path.remove(str(ECHO.parent))
    return provider


@pytest.fixture
async def echo() -> AsyncIterator[Driver]:
    async with bounded(), Driver(echo_provider()) as driver:
        await driver.load()
        yield driver


def user(content: str, name: str | None = None) -> ChatMessage:
    return ChatMessage(role="user", content=content, name=name)


async def test_a_load_and_the_model_list_give_the_three_models() -> None:
    async with bounded(), Driver(echo_provider()) as driver:
        done = await driver.load()
        assert done.models is not None
        assert [model.id for model in done.models] == ["echo", "echo-slow", "lorem"]
        assert await driver.models() == done.models


async def test_echo_streams_the_last_user_message_word_by_word(echo: Driver) -> None:
    messages = [user("first"), user("  one two\n\nthree \t"), ChatMessage(role="assistant", content="I see")]
    answer = await echo.generate(messages, Params(model_id="echo"))
    assert answer.chunks == ("  one ", "two\n\n", "three \t")
    assert answer.done.usage == Usage(prompt_tokens=6, completion_tokens=3, total_tokens=9)
    assert answer.done.finish_reason == "stop"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=50))
async def test_whitespace_is_kept_exactly_whatever_the_text(text: str) -> None:
    async with bounded(), Driver(echo_provider()) as driver:
        await driver.load()
        answer = await driver.generate([user(text)], Params(model_id="echo"))
        assert answer.text == text
        assert "" not in answer.chunks


async def test_a_name_is_heard_in_front_of_what_was_said(echo: Driver) -> None:
    answer = await echo.generate([user("hello", "Bob")], Params(model_id="echo"))
    assert answer.text == "Bob: hello"


async def test_without_a_word_from_the_user_the_answer_is_empty(echo: Driver) -> None:
    answer = await echo.generate([ChatMessage(role="system", content="be kind")], Params(model_id="echo"))
    assert answer.chunks == ()


async def test_raw_text_is_echoed_too(echo: Driver) -> None:
    answer = await echo.generate("once upon a time", Params(model_id="echo"), stream=False)
    assert answer.chunks == ("once upon a time",)
    assert answer.done.usage == Usage(prompt_tokens=4, completion_tokens=4, total_tokens=8)


async def test_stops_are_honoured(echo: Driver) -> None:
    answer = await echo.generate([user("one two three")], Params(model_id="echo", stops=("o th",)))
    assert answer.text == "one tw"


@pytest.mark.parametrize("words", [1, 7, 100])
async def test_lorem_says_as_many_words_as_it_may(echo: Driver, words: int) -> None:
    answer = await echo.generate([user("talk to me")], Params(model_id="lorem", max_output_length=words))
    assert len(answer.text.split(" ")) == len(answer.chunks) == words
    assert answer.done.usage == Usage(prompt_tokens=3, completion_tokens=words, total_tokens=3 + words)
    assert answer.done.finish_reason == "length"


async def test_a_slow_echo_can_be_cancelled_between_its_words(echo: Driver) -> None:
    running_echo = echo.generation([user("one two")], Params(model_id="echo-slow"))
    assert isinstance(await running_echo.next(), Chunk)
    running_echo.cancel()
    with pytest.raises(RequestFailed) as caught:
        await running_echo.answer()
    assert caught.value.failed.error == Code.INTERRUPT


async def test_a_slow_echo_says_everything(echo: Driver) -> None:
    answer = await echo.generate([user(" one two")], Params(model_id="echo-slow"))
    assert answer.chunks == (" one ", "two")


async def test_an_unknown_model_is_named_with_those_there_are(echo: Driver) -> None:
    with pytest.raises(RequestFailed) as caught:
        await echo.generate([user("hello")], Params(model_id="gpt-9"))
    assert caught.value.failed.error == Code.INVALID_MODEL
    assert caught.value.failed.message == "echo has no model 'gpt-9'; there are: echo, echo-slow, lorem"


async def test_a_preload_must_name_a_model() -> None:
    async with bounded(), Driver(echo_provider()) as driver:
        await driver.load(preload_model_id="lorem")
        assert [progress.stage for progress in driver.progress] == ["model"]
        with pytest.raises(RequestFailed) as caught:
            await driver.load(preload_model_id="gpt-9", ctx=2)
        assert caught.value.failed.error == Code.INVALID_MODEL


def test_it_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    with running(make_seed(tmp_path / "echo", ECHO)) as worker:
        worker.send(Load(id=1, ctx=1))
        assert isinstance(worker.until_end(1)[1], Done)
        worker.send(
            Generate(id=2, ctx=1, params=Params(model_id="echo"), messages=(user("hello 😀 you"),), stream=True)
        )
        assert [worker.next() for _ in range(3)] == [
            Chunk(id=2, texts=("hello ",)),
            Chunk(id=2, texts=("😀 ",)),
            Chunk(id=2, texts=("you",)),
        ]
        assert isinstance(worker.next(), Done)
        worker.input.close()
        assert worker.wait() == 0
        assert worker.stderr == ""
