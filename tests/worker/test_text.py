"""Stops, the name prefix, thinking and surrogates, over any cut of the text into pieces."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from waifu_worker.text import AnswerFilter


def filtered(
    pieces: Sequence[str], *, character_name: str = "", stops: Sequence[str] = (), thinking: bool = False
) -> str:
    answer = AnswerFilter(character_name=character_name, stops=stops, thinking=thinking)
    return "".join([*map(answer.feed, pieces), answer.end()])


def cut(text: str, places: Sequence[int]) -> list[str]:
    borders = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(borders)]


def first_stop_by_hand(text: str, stops: Sequence[str]) -> str:
    """The definition, without any cleverness."""
    found = [text.find(stop) for stop in stops if stop and stop in text]
    return text[: min(found)] if found else text


# Few letters make many near misses.
texts = st.text(alphabet="abA:I \n\r<think>/\ud83d\ude00é", max_size=60)
stop_lists = st.lists(st.text(alphabet="ab\n\r A", max_size=5), max_size=4)
cuts = st.lists(st.integers(0, 60), max_size=12)


@given(texts, cuts, stop_lists, st.sampled_from(["", "AI", " AI ", "a:b"]), st.booleans())
@example("\n\nAI: hello", [1, 2, 3, 4, 5, 6], ["\n"], "AI", False)
@example("<think>a</think>\nAI: b", list(range(24)), ["b"], "AI", True)
def test_the_pieces_add_up_to_the_filtered_whole_for_any_cut(
    text: str, places: list[int], stops: list[str], name: str, thinking: bool
) -> None:
    whole = filtered([text], character_name=name, stops=stops, thinking=thinking)
    assert filtered(cut(text, places), character_name=name, stops=stops, thinking=thinking) == whole
    whole.encode()


@given(texts, cuts, cuts, stop_lists, st.sampled_from(["", "AI", "a:b"]), st.booleans())
@example("ab\ud83d\ude00abab", [1, 2, 3, 4, 5], [2, 4], ["bab"], "", False)
@example("<think>a</think>AI: b", list(range(20)), [3, 9], ["b"], "AI", True)
def test_pieces_that_come_together_add_up_to_the_same_and_none_is_empty(
    text: str, places: list[int], groups: list[int], stops: list[str], name: str, thinking: bool
) -> None:
    pieces = cut(text, places)
    borders = [0, *sorted(min(group, len(pieces)) for group in groups), len(pieces)]
    answer = AnswerFilter(character_name=name, stops=stops, thinking=thinking)
    out = [answer.feed_all(pieces[start:end]) for start, end in itertools.pairwise(borders)]
    assert all(piece for together in out for piece in together)
    joined = "".join(["".join(together) for together in out] + [answer.end()])
    assert joined == filtered([text], character_name=name, stops=stops, thinking=thinking)


@pytest.mark.parametrize(
    ("together", "stops", "out"),
    [
        ([["a", "b"], ["c"]], [], [["a", "b"], ["c"]]),
        ([["a", "", "b"], []], [], [["a", "b"], []]),
        ([["a", "\ud83d", "\ude00", "b"]], [], [["a", "😀", "b"]]),
        ([["a", "b", "S"], ["x", "y"]], ["STOP"], [["a", "b"], ["Sx", "y"]]),
        ([["a", "bST", "O"], [], ["x", "STOP", "y"], ["z"]], ["STOP"], [["a", "b"], [], ["STOx"], []]),
        ([["a S b", "c"]], ["STOP"], [["a S b", "c"]]),
    ],
)
def test_pieces_stay_apart_and_are_cut_only_where_something_ends(
    together: list[list[str]], stops: list[str], out: list[list[str]]
) -> None:
    answer = AnswerFilter(stops=stops)
    given = [list(pieces) for pieces in together]
    assert [answer.feed_all(pieces) for pieces in given] == out
    assert given == together, "a provider's own list is left as it was"


def test_what_begins_an_answer_is_looked_for_over_pieces_that_come_together() -> None:
    answer = AnswerFilter(character_name="AI", stops=["\n"])
    assert answer.feed_all(["\n", "A"]) == []
    assert answer.feed_all(["I", ":", " ", "hello", " you"]) == ["hello", " you"]


@given(st.text(alphabet="abcd", max_size=40), cuts, st.lists(st.text(alphabet="abcd", max_size=4), max_size=4))
@example("abcd", [3], ["abcd", "bc"])
@example("abcx", [3], ["abcd", "bc"])
@example("aab", [2], ["ab"])
def test_the_text_ends_right_before_the_stop_that_begins_first(text: str, places: list[int], stops: list[str]) -> None:
    assert filtered(cut(text, places), stops=stops) == first_stop_by_hand(text, stops)


@given(st.text(alphabet="abc", max_size=40), st.lists(st.text(alphabet="abc", min_size=1, max_size=5), min_size=1))
def test_no_more_is_held_back_than_the_longest_beginning_of_a_stop(text: str, stops: list[str]) -> None:
    answer = AnswerFilter(stops=stops)
    fed, out = "", ""
    for letter in text:
        out += answer.feed(letter)
        fed += letter
        if answer.stopped:
            break
        held = fed[len(out) :]
        assert len(held) < max(map(len, stops))
        assert not held or any(stop.startswith(held[:1]) for stop in stops)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40), cuts)
def test_without_stops_and_name_the_text_comes_through_at_once_and_unchanged(text: str, places: list[int]) -> None:
    answer = AnswerFilter()
    for piece in cut(text, places):
        assert answer.feed(piece) == piece
    assert answer.end() == ""
    assert not answer.stopped


@pytest.mark.parametrize(
    ("pieces", "stops", "text", "stopped"),
    [
        (["hello STOP world"], ["STOP"], "hello ", True),
        (["hello S", "TO", "P world"], ["STOP"], "hello ", True),
        (["hello ST", "AR"], ["STOP"], "hello STAR", False),
        (["hello ST"], ["STOP"], "hello ST", False),
        (["STOP"], ["STOP"], "", True),
        (["abc"], ["", "b"], "a", True),
        (["abc"], [""], "abc", False),
        (["ab", "c", "x"], ["abcd", "bc"], "a", True),
        (["ab", "c"], ["abcd", "bc"], "a", True),
        (["ab", "c", "d"], ["abcd", "bc"], "", True),
        (["hi\r", "\nthere"], ["\r\n"], "hi", True),
        (["a.b", "axb"], ["a.b"], "", True),
        (["[x", "]y"], ["]"], "[x", True),
        (["^-\\", "z"], ["\\", "-", "^"], "", True),
        (["1\ud83d", "\ude002"], ["😀"], "1", True),
    ],
)
def test_stops(pieces: list[str], stops: list[str], text: str, stopped: bool) -> None:
    answer = AnswerFilter(stops=stops)
    assert "".join([*map(answer.feed, pieces), answer.end()]) == text
    assert answer.stopped is stopped


def test_after_a_stop_nothing_more_comes_out() -> None:
    answer = AnswerFilter(stops=["b"])
    assert [answer.feed("ab"), answer.feed("c"), answer.feed("b"), answer.end()] == ["a", "", "", ""]


def test_a_stop_that_completes_only_with_the_end_counts() -> None:
    answer = AnswerFilter(stops=["abcd", "bc"])
    assert answer.feed("abc") == ""
    assert not answer.stopped
    assert answer.end() == "a"
    assert answer.stopped


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["\n\nhello\nworld"], "hello"),
        (["\n", "\r\n", "hello", "\nworld"], "hello"),
        (["\n\n"], ""),
        ([" \nhello"], " "),
    ],
)
def test_leading_line_breaks_are_dropped_where_a_stop_is_a_line_break(pieces: list[str], text: str) -> None:
    assert filtered(pieces, stops=["\r", "\n"]) == text
    assert filtered(pieces, stops=["\n", "END"]) == text


def test_leading_line_breaks_stay_where_no_stop_consists_of_them() -> None:
    assert filtered(["\n\nhello"], stops=["a\n"]) == "\n\nhello"


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["AI: hello"], "hello"),
        (["A", "I", ":", " ", " hello"], "hello"),
        ([" \n", " AI:\nhello"], "hello"),
        (["AI: AI: hello"], "AI: hello"),
        (["AIR: hello"], "AIR: hello"),
        (["A"], "A"),
        ([" ", " A"], "  A"),
        (["  "], "  "),
        ([" ", "  hello AI: you"], "   hello AI: you"),
        (["AI:"], ""),
        (["AI: ", "\n"], ""),
        (["ai: hello"], "ai: hello"),
        (["hello"], "hello"),
        ([], ""),
    ],
)
def test_one_name_prefix_at_the_very_start_is_taken_away_with_the_blanks_around_it(
    pieces: list[str], text: str
) -> None:
    assert filtered(pieces, character_name="AI") == text


def test_the_name_is_taken_away_before_stops_are_looked_for() -> None:
    assert filtered(["AI: hello AI: you"], character_name="AI", stops=["AI:"]) == "hello "
    assert filtered([" : AI: hello"], character_name=" ") == " : AI: hello"
    assert filtered(["\nAI:", "\nhello\n"], character_name="AI", stops=["\n"]) == "hello"


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["<think>well</think>\n\nhello"], "hello"),
        (["\n<th", "ink>we", "ll</th", "ink>\n", "\nhello"], "hello"),
        (["<think>", "a < b </thin", " </think>", "x"], "x"),
        (["<think>never ends"], ""),
        (["<think></think>"], ""),
        (["<thin"], "<thin"),
        (["\n", "<thing>"], "\n<thing>"),
        (["hello <think>no</think>"], "hello <think>no</think>"),
        ([" ", " "], "  "),
        (["<think>a</think>b<think>c</think>"], "b<think>c</think>"),
    ],
)
def test_thinking_at_the_start_is_taken_away_where_the_provider_asks_for_it(pieces: list[str], text: str) -> None:
    assert filtered(pieces, thinking=True) == text
    assert filtered(pieces) == "".join(pieces)


def test_thinking_then_the_name_then_the_stop() -> None:
    assert filtered(["<think>AI: x\n</think>\nAI: hello\nyou"], character_name="AI", stops=["\n"], thinking=True) == (
        "hello"
    )


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["\ud83d", "\ude00"], "😀"),
        (["a\ud83d", "\ude00b"], "a😀b"),
        (["\ud83d\ude00"], "😀"),
        (["\ud83d", "x"], "\ufffdx"),
        (["\ud83d"], "\ufffd"),
        (["\ude00", "é"], "\ufffdé"),
        (["\ud83d", "\ud83d", "\ude00"], "\ufffd😀"),
        (["\ud83d", "", "\ude00"], "😀"),
        (["😀", "é", "e"], "😀ée"),
    ],
)
def test_halves_of_a_surrogate_pair_are_joined_and_lone_ones_replaced(pieces: list[str], text: str) -> None:
    assert filtered(pieces) == text
