"""One answer out of its bytes; the contract of the workers has the same over real sockets."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from waifu_worker.chat_stream import AnswerReader
from waifu_worker.provider import Finish, ProviderError
from waifu_worker.sse import MAX_EVENT_BYTES
from waifu_worker.upstream import Upstream
from waifu_worker.wire import Code, Usage

DONE = b"data: [DONE]\n\n"


def reader() -> AnswerReader:
    return AnswerReader(Upstream("Acme", "https://api.acme.example/v1"), "m")


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def delta(reason: str | None = None, **fields: object) -> bytes:
    return event(choices=[{"index": 0, "delta": fields, "finish_reason": reason}])


def test_only_what_is_answer_text_comes_out() -> None:
    stream = [
        event(id="x", model="m"),
        delta(role="assistant", content=""),
        delta(content=None, reasoning_content="Hm"),
        delta(reasoning="Hm"),
        delta(content="a"),
        delta(refusal="b"),
        event(choices=[{"index": 0, "text": "c"}]),
        event(choices=[{"index": 0, "delta": {}, "text": "d"}]),
        event(choices=[{"index": 0, "delta": None}]),
        event(choices=None),
        event(choices=[]),
    ]
    assert reader().feed(b"".join(stream)) == ["a", "b", "c", "d"]


def test_it_is_over_with_the_finish_reason_and_done_with_its_terminator() -> None:
    answer = reader()
    states = []
    for part in (delta(content="a"), delta(reason="stop"), DONE):
        answer.feed(part)
        states.append((answer.over, answer.ended, answer.done))
    assert states == [(False, False, False), (True, True, False), (True, True, True)]
    assert answer.finish(9) == Finish(reason="stop")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "stop"),
        ("eos", "stop"),
    ],
)
def test_a_finish_reason_is_one_of_three(given: str, reason: str) -> None:
    answer = reader()
    answer.feed(delta(content="a") + delta(reason=given))
    assert answer.finish(9).reason == reason


def test_a_terminator_alone_gives_no_reason() -> None:
    answer = reader()
    answer.feed(DONE)
    assert answer.finish(9) == Finish()


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource"])
def test_a_reason_that_is_a_failure_fails(reason: str) -> None:
    answer = reader()
    answer.feed(delta(content="a") + delta(reason=reason))
    with pytest.raises(ProviderError, match=reason) as caught:
        answer.finish(9)
    assert caught.value.reason == "provider_down"


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 9}, (1, 2, 9)),
        ({"prompt_tokens": 1, "completion_tokens": 2}, (1, 2, 3)),
        ({"prompt_tokens": 1}, (1, 0, 1)),
        ({"prompt_tokens": "1"}, None),
        ({"\ud800": 1, "prompt_tokens": 1}, None),
        ({}, None),
        (7, None),
        (None, None),
    ],
)
def test_usage_is_taken_where_it_is_one(usage: object, counts: tuple[int, int, int] | None) -> None:
    answer = reader()
    answer.feed(delta(content="a", reason="stop") + event(choices=[], usage=usage) + DONE)
    expected = counts and Usage(prompt_tokens=counts[0], completion_tokens=counts[1], total_tokens=counts[2])
    assert answer.finish(9).usage == expected


def test_groqs_usage_and_errors_are_found_where_groq_puts_them() -> None:
    answer = reader()
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    answer.feed(event(x_groq={"id": "r"}) + delta(reason="stop") + event(choices=[], x_groq={"usage": usage}))
    assert answer.finish(9).usage == Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    answer = reader()
    assert answer.feed(delta(content="a") + event(x_groq={"error": "over capacity"}) + delta(content="b")) == ["a"]
    assert answer.failure is not None
    assert "over capacity" in answer.failure.message


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (event(error={"message": "boom"}), "boom"),
        (event(error="boom"), "boom"),
        (b'event: error\ndata: {"message": "boom"}\n\n', "boom"),
        (b"event: error\ndata: boom\n\n", "boom"),
        (b"event: error\ndata: \xff boom\n\n", "boom"),
        (b"data: {]\n\n", "no JSON"),
        (b"data: 7\n\n", "no JSON"),
        (b"event: message\ndata: x\n\n", "no JSON"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "no JSON"),
        (b'data: {"choices": [null]}\n\n', "no JSON"),
        (b'data: {"choices": [{"delta": {"content": 7}}]}\n\n', "no JSON"),
    ],
)
def test_a_failure_ends_the_answer_after_its_text(stream: bytes, said: str) -> None:
    answer = reader()
    assert answer.feed(delta(content="a")) == ["a"]
    assert answer.feed(stream + delta(content="b")) == []
    assert answer.over
    assert answer.failure is not None
    assert answer.failure.code is Code.UNEXPECTED
    assert said in answer.failure.message


def test_an_event_that_never_ends_fails_the_answer() -> None:
    answer = reader()
    assert answer.feed(b"data: " + b"x" * MAX_EVENT_BYTES) == []
    assert answer.failure is not None
    assert "never ends" in answer.failure.message


def test_an_event_of_another_name_need_not_be_json() -> None:
    answer = reader()
    assert answer.feed(b"event: ping\ndata: now\n\n" + delta(content="a")) == ["a"]
    assert not answer.over


def test_a_last_event_without_its_blank_line_counts() -> None:
    answer = reader()
    assert answer.feed(delta(content="a", reason="stop").rstrip()) == []
    assert answer.end() == ["a"]
    assert answer.over
    answer = reader()
    answer.feed(event(error="boom").rstrip())
    assert answer.end() == []
    assert answer.failure is not None


def test_half_an_event_at_the_end_is_a_cut_and_no_failure_of_its_own() -> None:
    answer = reader()
    answer.feed(delta(content="a") + b'data: {"choi')
    assert answer.end() == []
    assert answer.over
    assert not answer.ended
    assert answer.failure is None


@pytest.mark.parametrize(
    ("texts", "pieces"),
    [
        (["\ud83d", "\ude00"], ["😀"]),
        (["a\ud83d", "\ude00b"], ["a", "😀b"]),
        (["\ud83d", "b"], ["\ufffdb"]),
        (["\ude00"], ["\ufffd"]),
        (["\ud83d", "\ud83d", "\ude00"], ["\ufffd", "😀"]),
    ],
)
def test_halves_of_a_character_are_joined_and_lone_ones_replaced(texts: list[str], pieces: list[str]) -> None:
    answer = reader()
    assert [piece for text in texts for piece in answer.feed(delta(content=text))] == pieces


def test_numbers_that_json_does_not_have_do_no_harm() -> None:
    answer = reader()
    assert answer.feed(b'data: {"choices":[{"delta":{"content":"a"},"logprobs":NaN}]}\n\n') == ["a"]
    assert answer.feed(b'data: {"score":NaN}\n\n') == []
    assert not answer.over
    assert answer.feed(b'data: {"error":"boom","score":NaN}\n\n' + delta(content="b")) == []
    assert answer.failure is not None


def test_an_answer_in_one_piece_is_read_too() -> None:
    answer = reader()
    body = {"choices": [{"message": {"content": "a"}, "finish_reason": "length"}], "usage": {"prompt_tokens": 1}}
    assert answer.whole(b"\n\n" + json.dumps(body).encode()) == ["a"]
    assert answer.done
    assert answer.finish(9).reason == "length"
    answer = reader()
    assert answer.whole(b'{"error": "boom"}') == []
    assert answer.failure is not None


def test_an_answer_without_a_word_says_why() -> None:
    answer = reader()
    answer.feed(delta(reason="length"))
    warning = answer.finish(200).warning
    assert warning is not None
    assert "200 tokens" in warning
    answer = reader()
    answer.feed(delta(reason="content_filter"))
    with pytest.raises(ProviderError) as caught:
        answer.finish(200)
    assert (caught.value.code, caught.value.reason) == (Code.INVALID_PROMPT, "refused")


def test_content_in_parts_is_the_text_in_it_without_what_the_model_thinks() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}
    stream = [
        delta(content=[thought]),
        delta(content=[thought, {"type": "text", "text": "a"}, {"type": "text"}, "odd", {"type": "text", "text": "b"}]),
        event(choices=[{"index": 0, "message": {"content": [{"type": "text", "text": "c"}]}}]),
        delta(content="d"),
        delta(reason="stop", content=[]),
    ]
    answer = reader()
    assert answer.feed(b"".join(stream)) == ["ab", "c", "d"]
    assert answer.ended


@pytest.mark.parametrize("odd", ["7", "[]", '{"choices":7}', '{"choices":[7]}', '{"choices":[{"delta":[]}]}'])
def test_an_event_of_another_shape_is_no_part_of_an_answer(odd: str) -> None:
    answer = reader()
    assert answer.feed(f"data: {odd}\n\n".encode()) == []
    assert answer.failure is not None


@pytest.mark.parametrize(
    ("texts", "thinks"),
    [
        (["<th", "ink>Hm"], True),
        (["\n", "<think>"], True),
        (["Hi <think>"], False),
        (["<thinking"], False),
        ([" " * 40, "<think>"], False),
        ([], False),
    ],
)
def test_thinking_at_the_beginning_of_the_text_is_noticed(texts: list[str], thinks: bool) -> None:
    answer = reader()
    for text in texts:
        answer.feed(delta(content=text))
    assert answer.thinks_in_text is thinks


_STRANGE = (
    delta(content="\ud83d"),
    delta(content="\ude00 b"),
    delta(content=[{"type": "text", "text": "c"}]),
    delta(refusal="d"),
    event(choices=[], usage={"prompt_tokens": 1}),
    event(error="boom"),
    delta(reason="stop"),
    DONE,
    b": ping\n\n",
    b"event: ping\ndata: now\n\n",
    b"event: message\ndata: {}\n\n",
    b"event: error\ndata: {}\n\n",
    b"data: {}\ndata: {}\n\n",
    b"data: {}, {\n\n",
    b'data: "usage": 7}\n\n',
    b"data: [{}\n\n",
    b"data: {}]\n\n",
    b"data: \n\n",
)
_PLAIN = tuple(delta(content=letter) for letter in "aé😀")


@given(st.lists(st.sampled_from(_PLAIN) | st.sampled_from(_STRANGE), max_size=12))
@example([_PLAIN[0], b"data: {}, {\n\n", b'data: "usage": 7}\n\n', _PLAIN[1]])
@example([b"data: [{}\n\n", b"data: {}]\n\n"])
def test_events_that_come_together_say_what_each_says_by_itself(stream: list[bytes]) -> None:
    together, alone = reader(), reader()
    texts = together.feed(b"".join(stream))
    # One that broke off is fed nothing more.
    assert [text for one in stream if alone.failure is None for text in alone.feed(one)] == texts
    assert (together.ended, together.done) == (alone.ended, alone.done)
    assert str(together.failure) == str(alone.failure)
    assert together.thinks_in_text == alone.thinks_in_text
