"""What is remembered of a client's turns."""

from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st
from waifu_lollms.history import MOST_CHARACTERS, MOST_TURNS, Histories, Turn

ANN: Final = "english/generic/ann"
BEA: Final = "english/generic/bea"


def test_each_personality_has_a_history_of_its_own_in_the_order_it_was_said() -> None:
    histories = Histories()
    histories.add(ANN, Turn("1", "a"))
    histories.add(BEA, Turn("2", "b"))
    histories.add(ANN, Turn("3", "c"))
    assert histories.turns(ANN) == (Turn("1", "a"), Turn("3", "c"))
    assert histories.turns(BEA) == (Turn("2", "b"),)
    assert histories.turns("nobody") == ()


def test_a_cancelled_answer_stays_as_far_as_it_came() -> None:
    histories = Histories()
    histories.add(ANN, Turn("hello", "I was just ab"))
    histories.add(ANN, Turn("again", ""))
    assert histories.turns(ANN) == (Turn("hello", "I was just ab"), Turn("again", ""))


def test_a_failed_turn_leaves_where_it_has_no_answer() -> None:
    histories = Histories()
    histories.add(ANN, Turn("hello", ""), failed=True)
    histories.add(ANN, Turn("hello", "half an ans"), failed=True)
    assert histories.turns(ANN) == (Turn("hello", "half an ans"),)


def test_the_oldest_of_two_hundred_turns_leaves_and_no_other_personalitys() -> None:
    histories = Histories()
    histories.add(BEA, Turn("first of all", "b"))
    for number in range(MOST_TURNS + 3):
        histories.add(ANN, Turn(str(number), "a"))
    assert histories.turns(ANN) == tuple(Turn(str(number), "a") for number in range(3, MOST_TURNS + 3))
    assert histories.turns(BEA) == (Turn("first of all", "b"),)


def test_where_the_characters_are_full_the_oldest_of_all_personalities_leaves() -> None:
    histories = Histories()
    half = "x" * (MOST_CHARACTERS // 2 - 1000)
    histories.add(BEA, Turn("oldest", half))
    histories.add(ANN, Turn("older", half))
    histories.add(ANN, Turn("newest", half))
    assert histories.turns(BEA) == ()
    assert [turn.user for turn in histories.turns(ANN)] == ["older", "newest"]


def test_a_turn_too_large_by_itself_leaves_no_gap_and_costs_no_other_personality() -> None:
    histories = Histories()
    histories.add(BEA, Turn("other", "b"))
    histories.add(ANN, Turn("before", "a"))
    histories.add(ANN, Turn("x" * MOST_CHARACTERS, "huge"))
    assert histories.turns(ANN) == ()
    histories.add(ANN, Turn("after", "a"))
    assert histories.turns(ANN) == (Turn("after", "a"),)
    assert histories.turns(BEA) == (Turn("other", "b"),)


def test_ten_thousand_empty_turns_of_as_many_personalities_are_bounded_too() -> None:
    histories = Histories()
    for number in range(10_000):
        histories.add(str(number), Turn("", ""))
    kept = sum(len(histories.turns(str(number))) for number in range(0, 10_000, 100))
    assert 0 < kept < 100 and histories.turns("9999") and not histories.turns("0")


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from((ANN, BEA)), st.integers(0, MOST_CHARACTERS // 3)), max_size=12))
def test_what_is_remembered_is_the_newest_that_was_said_and_within_the_bounds(said: list[tuple[str, int]]) -> None:
    histories = Histories()
    for number, (key, size) in enumerate(said):
        histories.add(key, Turn(f"{number}", "x" * size))
    kept = {key: histories.turns(key) for key in (ANN, BEA)}
    assert sum(len(turn.answer) for turns in kept.values() for turn in turns) <= MOST_CHARACTERS
    for key, turns in kept.items():
        numbers = [str(number) for number, (owner, _) in enumerate(said) if owner == key]
        assert [turn.user for turn in turns] == numbers[len(numbers) - len(turns) :]
