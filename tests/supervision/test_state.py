"""The moves of a worker's life, and the limit of its crashes."""

import itertools

import pytest

from waifu_llm.supervision.state import MOVES, CrashLimit, ForbiddenMove, WorkerState, check_move, restart_delay


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


def test_a_gateway_waits_longer_after_each_death_and_not_longer_than_4_seconds() -> None:
    assert [restart_delay(deaths) for deaths in range(1, 7)] == [0.0, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_the_deaths_that_count_are_those_within_the_window() -> None:
    limit = CrashLimit(9, 100.0)
    assert limit.deaths == 0
    counts = []
    for time in (0.0, 50.0, 60.0, 155.0, 400.0):
        limit.died(time, delivered=False)
        counts.append(limit.deaths)
    assert counts == [1, 2, 3, 2, 1]
