"""hf_local through the real module, its environment and torch, on models of a few kilobytes."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final, Unpack

import pytest
from support import hf_local_inside
from support.environments import SharedEnvironments
from support.hf_local import NAME, log_of, patient, serving, tiny, torch_environment
from support.tiny_models import CONTEXT, PLAIN_SAYS, SAYS
from support.waiting import bounded, until

from waifu_client import Client, connect
from waifu_client.errors import Interrupted, InvalidModel, InvalidPrompt, LLMError, TimedOut
from waifu_client.prompts import Params
from waifu_client.protocol import Message
from waifu_client.results import Answer
from waifu_llm.environment import uv

__all__ = ["tiny", "torch_environment"]
pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group(NAME)]

LONG: Final = 100_000


@pytest.fixture(scope="module")
def home_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def url(home_of_all: Path, tiny: Path, shared_environments: SharedEnvironments) -> Iterator[str]:
    with serving(home_of_all, shared_environments, {"HF_HUB_CACHE": str(tiny / "hub")}) as module:
        yield module.url


@pytest.fixture
async def llm(url: str, tiny: Path) -> AsyncIterator[Client]:
    async with patient(), connect(url) as llm:
        await llm.load(NAME, folders=[str(tiny / "models")])
        yield llm


async def failure(llm: Client, model_id: str, text: str = "hi") -> LLMError:
    async with patient():
        with pytest.raises(LLMError) as caught:
            await llm.generate(text, model_id=model_id)
    return caught.value


async def pieces(llm: Client, model_id: str, temperature: float = 1.0) -> list[str]:
    async with patient():
        return [piece async for piece in llm.stream("hi", model_id=model_id, temperature=temperature)]


async def test_the_list_has_every_whole_model_of_the_cache_and_of_the_folders(llm: Client) -> None:
    models = await llm.models()
    assert {"by-name", "owner/model", "tiny/sure", "tiny/plain"} <= set(models.ids)
    assert "tiny/half" not in models.ids
    assert (models.details["tiny/sure"].kind, models.details["tiny/plain"].kind) == ("chat", "text")
    assert models.details["tiny/sure"].context == CONTEXT
    assert (models.details["tiny/sure"].size_bytes or 0) > 1_000_000


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("model_id", ["tiny/sure", "by-name", "owner/model"])
async def test_the_text_comes_token_by_token_and_never_half_a_character(
    llm: Client, model_id: str, temperature: float
) -> None:
    assert await pieces(llm, model_id, temperature) == list(SAYS)


async def test_a_whole_answer_says_how_it_ended_and_what_it_took(llm: Client) -> None:
    answer = await llm.generate("hi", model_id="tiny/sure")
    assert (answer.text, answer.finish_reason) == (SAYS, "stop")
    assert answer.usage is not None
    made = len(SAYS.encode()) + 1
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, made)
    assert answer.usage.total_tokens == 6 + made


async def test_bytes_that_are_no_text_cost_no_character_around_them(llm: Client) -> None:
    assert "".join(await pieces(llm, "tiny/bytes")) == "\ufffd😀z"


async def test_an_answer_has_at_most_as_many_tokens_as_asked(llm: Client) -> None:
    answer = await llm.generate("hi", model_id="tiny/sure", max_output_length=2)
    assert (answer.text, answer.finish_reason) == ("h", "length")
    answer = await llm.generate("hi", model_id="tiny/endless", max_output_length=6)
    assert (answer.text, answer.finish_reason) == ("abc ab", "length")


async def test_random_bytes_repeat_with_a_seed_and_differ_without(llm: Client) -> None:
    async def said(seed: int | None, temperature: float = 1.5) -> str:
        answer = await llm.generate(
            prompt="x", model_id="tiny/random", seed=seed, temperature=temperature, max_output_length=60
        )
        return answer.text

    assert await said(7) == await said(7)
    assert len({await said(None) for _ in range(4)}) > 1
    assert await said(None, 0.0) == await said(None, 0.0)
    assert await said(-7) == await said(-7)


async def test_sampling_parameters_act_and_those_that_torch_has_not_are_named(llm: Client) -> None:
    async def said(**params: Unpack[Params]) -> Answer:
        params["max_output_length"] = 20
        return await llm.generate(prompt="x", model_id="tiny/random", **params)

    # With the most likely token alone to choose from, the hottest answer is the cold one.
    cold = await said(temperature=0.0)
    assert cold.text == "x" * 20
    assert (await said(temperature=900.0)).text != cold.text
    for hot in (
        await said(temperature=900.0, top_k=1),
        await said(temperature=900.0, top_p=0.0),
        await said(temperature=900.0, min_p=1.0),
    ):
        assert (hot.text, hot.ignored) == (cold.text, ())
    other = await said(temperature=0.0, repeat_penalty=100.0, repeat_last_n=64, presence_penalty=0.5)
    assert other.text != cold.text
    assert set(other.ignored) == {"repeat_last_n", "presence_penalty"}


async def test_a_stop_in_the_text_ends_the_generation_itself(llm: Client) -> None:
    async with patient():
        answer = await llm.generate("hi", model_id="tiny/endless", max_output_length=LONG, stop_tokens=["c a"])
        assert (answer.text, answer.finish_reason) == ("ab", "stop")
        # It would have taken minutes, and the next one waits for its end.
        assert (await llm.generate("hi", model_id="tiny/sure")).text == SAYS


async def test_a_token_id_ends_the_answer_and_is_not_said(llm: Client) -> None:
    from_end = await llm.generate("hi", model_id="tiny/endless", max_output_length=4)
    assert from_end.text == "abc "
    answer = await llm.generate(
        "hi", model_id="tiny/endless", max_output_length=LONG, stop_tokens=[TOKEN_OF_C, 2**31 - 1, "never"]
    )
    assert (answer.text, answer.finish_reason) == ("ab", "stop")


# The six special tokens come first, then the printable bytes in order.
TOKEN_OF_C: Final = 6 + ord("c") - ord("!")


async def test_names_and_the_character_reach_the_model(llm: Client) -> None:
    messages = [Message(role="system", content="S"), Message(role="user", content="hi", name="Bob")]
    chat = await llm.generate(messages, model_id="tiny/sure", character_name="Eve")
    assert chat.usage is not None
    assert chat.usage.prompt_tokens == len("<S|") + len("<Bob: hi|") + len("^<")
    plain = await llm.generate(messages, model_id="tiny/plain", character_name="Eve", max_output_length=LONG)
    assert plain.usage is not None
    assert plain.usage.prompt_tokens == len("S\nBob: hi\nEve:")


async def test_a_model_without_a_template_says_its_own_turn_only(llm: Client) -> None:
    answer = await llm.generate("hi", model_id="tiny/plain", max_output_length=LONG)
    assert (answer.text, answer.finish_reason) == (PLAIN_SAYS, "stop")


async def test_raw_text_is_continued(llm: Client) -> None:
    answer = await llm.generate(prompt="x:", model_id="tiny/plain", max_output_length=4)
    assert (answer.text, answer.finish_reason) == (f"{PLAIN_SAYS}\nU", "length")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 2


async def test_a_strict_template_gets_the_system_message_inside_the_users(llm: Client) -> None:
    messages = [
        Message(role="system", content="S"),
        Message(role="user", content="a"),
        Message(role="user", content="b"),
    ]
    answer = await llm.generate(messages, model_id="tiny/strict")
    assert answer.text == SAYS
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len("^<S\n\na\n\nb|<")


async def test_a_template_that_refuses_says_why(llm: Client) -> None:
    error = await failure(llm, "tiny/refusing")
    assert isinstance(error, InvalidPrompt)
    assert "nothing pleases me" in error.message


async def test_thinking_that_the_template_begins_is_taken_away(llm: Client) -> None:
    assert "".join(await pieces(llm, "tiny/thinking")) == "yes"


async def test_too_long_a_prompt_is_refused_and_a_long_one_leaves_what_room_there_is(llm: Client) -> None:
    error = await failure(llm, "tiny/sure", "x" * CONTEXT)
    assert isinstance(error, InvalidPrompt)
    assert f"{CONTEXT + 4} tokens" in error.message and str(CONTEXT) in error.message
    answer = await llm.generate("x" * (CONTEXT - 4 - 3), model_id="tiny/sure")
    assert (answer.text, answer.finish_reason) == ("hé", "length")


@pytest.mark.parametrize(
    ("model_id", "words"),
    [
        ("tiny/none", "hf download tiny/none, or load with pull: true"),
        ("tiny/half", "only partly"),
        ("tiny/rotten", "cannot be loaded"),
        ("tiny/foreign", "program code of its own"),
        ("/no/such/folder", "no whole model"),
        ("../../models/by-name", "not on this machine"),
    ],
)
async def test_a_model_that_cannot_be_had_is_told_in_a_sentence(llm: Client, model_id: str, words: str) -> None:
    error = await failure(llm, model_id)
    assert isinstance(error, InvalidModel)
    assert words in error.message
    assert (await llm.generate("hi", model_id="tiny/sure")).text == SAYS


async def test_an_exception_in_the_generating_thread_ends_the_request(llm: Client, home_of_all: Path) -> None:
    error = await failure(llm, "tiny/broken")
    assert error.code == "UNEXPECTED"
    assert "probability" in error.message
    # Its log comes by another pipe than its answer.
    await until(lambda: "Traceback" in log_of(home_of_all), "the log has it")
    assert (await llm.generate("hi", model_id="tiny/sure")).text == SAYS


async def test_an_interrupt_stops_within_a_token_and_the_same_worker_goes_on(llm: Client) -> None:
    pid = (await llm.stats()).workers[0].pid
    stream = llm.stream("hi", model_id="tiny/endless", max_output_length=LONG, timeout_ms=None)
    with pytest.raises(Interrupted):
        async for _ in stream:
            assert stream.request_id is not None
            await llm.interrupt(stream.request_id)
    async with bounded():
        assert (await llm.generate("hi", model_id="tiny/sure")).text == SAYS
    assert (await llm.stats()).workers[0].pid == pid


async def test_requests_wait_their_turn_and_can_be_left_while_they_wait(llm: Client) -> None:
    first = llm.stream("hi", model_id="tiny/endless", max_output_length=LONG, timeout_ms=None)
    async with patient():
        async for _ in first:
            break
        left = [asyncio.ensure_future(llm.generate("hi", model_id="tiny/sure")) for _ in range(3)]
        late = llm.stream("hi", model_id="tiny/sure", timeout_ms=50)
        with pytest.raises(TimedOut):
            async for _ in late:
                pass
        for task in left[:2]:
            task.cancel()
        assert not left[2].done()
        await first.aclose()
        assert (await left[2]).text == SAYS


async def test_a_model_list_and_another_load_do_not_wait_for_a_generation(llm: Client, url: str, tiny: Path) -> None:
    stream = llm.stream("hi", model_id="tiny/endless", max_output_length=LONG, timeout_ms=None)
    async with patient():
        async for _ in stream:
            break
        async with connect(url) as other:
            loaded = await other.load(NAME, folders=[str(tiny / "models"), "/no/such/folder"])
            assert "/no/such/folder" in (loaded.warning or "")
            assert "by-name" in (await other.models()).ids
        await stream.aclose()


async def test_a_preload_brings_the_model_into_memory_and_says_so(url: str) -> None:
    seen: list[tuple[str, str, float | None]] = []
    async with patient(), connect(url) as llm:
        await llm.load(
            NAME,
            preload_model_id="tiny/sure",
            on_progress=lambda step: seen.append((step.stage, step.detail, step.fraction)),
        )
    assert ("model", "loading tiny/sure", None) in seen
    assert seen[-1] == ("model", "loaded tiny/sure", 1.0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"preload_model_id": "tiny/none"}, "not on this machine"),
        ({"preload_model_id": "tiny/none", "pull": True, "offline": True}, "offline is set"),
        ({"device": "tpu"}, "there is no device 'tpu'"),
        ({"device": "cuda:99"}, "there are: cpu"),
        ({"dtype": "int4"}, "must be one of"),
        ({"folders": ["relative"]}, "absolute"),
    ],
)
async def test_a_load_that_cannot_be_says_why(url: str, fields: dict[str, object], words: str) -> None:
    async with patient(), connect(url) as llm:
        with pytest.raises(LLMError) as caught:
            await llm.load(NAME, **fields)  # type: ignore[arg-type]  # each field as its row says
    assert words in caught.value.message


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_the_weights_can_have_another_format(url: str, dtype: str) -> None:
    async with patient(), connect(url) as llm:
        await llm.load(NAME, device="cpu", dtype=dtype, preload_model_id="tiny/sure")
        assert (await llm.generate("hi", model_id="tiny/sure")).text == SAYS


async def test_many_clients_get_whole_answers_each(url: str) -> None:
    async def ask(number: int) -> str:
        async with connect(url) as llm:
            await llm.load(NAME)
            return (await llm.generate("x" * number, model_id="tiny/sure", timeout_ms=None)).text

    async with patient():
        assert await asyncio.gather(*map(ask, range(1, 21))) == [SAYS] * 20


@pytest.fixture(scope="module")
def inside(torch_environment: Path, tiny: Path) -> dict[str, str | None]:
    """All checks in one process: each one's traceback, or None."""
    argv = [str(uv.python_of(torch_environment, sys.platform)), hf_local_inside.__file__, str(tiny)]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results: dict[str, str | None] = json.loads(done.stdout)
    return results


@pytest.mark.parametrize("check", ["left_while_reading", "one_model_at_a_time", "out_of_memory", "no_memory_to_load"])
def test_inside_the_worker(inside: dict[str, str | None], check: str) -> None:
    """Each check's docstring in `support.hf_local_inside` says what must hold."""
    assert inside[check] is None, inside[check]
