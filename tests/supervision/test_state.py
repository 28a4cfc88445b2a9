"""The moves of a worker's life, and the limit of its crashes."""

import itertools

import pytest

from waifu_llm.supervision.state import MOVES, CrashLimit, ForbiddenMove, WorkerState, check_move


@pytest.mark.parametrize(("old", "new"), list(itertools.product(WorkerState, WorkerState)))
def test_only_the_moves_of_the_table_are_allowed(old: WorkerState, new: WorkerState) -> None:
    if new in MOVES[old]:
        check_move(old, new)
    else:
        with pytest.raises(ForbiddenMove, match=f"{old} cannot become {new}"):
            check_move(old, new)


def test_every_state_can_be_left() -> None:
    assert set(MOVES) == set(WorkerState)
    assert all(MOVES.values())


def test_the_limit_is_used_up_by_deaths_within_the_window() -> None:
    limit = CrashLimit(3, 100.0)
    assert [limit.died(t, delivered=False) for t in (0.0, 1.0, 2.0)] == [False, False, True]


def test_deaths_outside_the_window_do_not_count() -> None:
    limit = CrashLimit(3, 100.0)
    assert not any(limit.died(t, delivered=False) for t in (0.0, 100.0, 200.0, 300.0))


def test_a_worker_that_delivered_may_die_as_often_as_it_likes() -> None:
    limit = CrashLimit(1, 100.0)
    assert not any(limit.died(t, delivered=True) for t in range(10))


def test_a_reset_gives_a_new_chance() -> None:
    limit = CrashLimit(2, 100.0)
    assert not limit.died(0.0, delivered=False)
    limit.reset()
    assert not limit.died(1.0, delivered=False)
