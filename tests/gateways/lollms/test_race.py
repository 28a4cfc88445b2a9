"""Of several at once the one asked for last wins."""

from contextlib import ExitStack

import pytest
from waifu_lollms.race import Entry, Race


def enter(race: Race) -> tuple[ExitStack, Entry]:
    stack = ExitStack()
    entry = stack.enter_context(race.entry())
    entry.runs()
    return stack, entry


def test_one_alone_wins_again_and_again() -> None:
    race = Race()
    for _ in range(3):
        with race.entry() as entry:
            entry.runs()
            assert entry.wins()


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_of_two_the_last_wins_whichever_ends_first(first_ends_first: bool) -> None:
    race = Race()
    (first_stack, first), (second_stack, second) = enter(race), enter(race)
    if first_ends_first:
        assert not first.wins()
        first_stack.close()
        assert second.wins()
    else:
        assert second.wins()
        second_stack.close()
        assert not first.wins()


def test_one_that_failed_stands_in_nobodys_way() -> None:
    race = Race()
    (_, first), (second_stack, _) = enter(race), enter(race)
    second_stack.close()
    assert first.wins()


def test_one_that_is_not_yet_known_to_be_possible_stands_in_nobodys_way_and_has_its_place_all_the_same() -> None:
    race = Race()
    _, first = enter(race)
    with race.entry() as second:
        assert first.wins()
        _, third = enter(race)
        second.runs()
        assert not second.wins()
        assert third.wins()


def test_one_that_raises_has_left() -> None:
    race = Race()
    _, first = enter(race)
    with pytest.raises(ValueError, match="failed"), race.entry():
        raise ValueError("failed")
    assert first.wins()
