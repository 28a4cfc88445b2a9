"""When what was put off is done, and that it always is."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from waifu_llm.supervision.afterwards import Afterwards


@pytest.fixture
def told() -> list[str]:
    return []


def saying(told: list[str], word: str) -> Callable[[], None]:
    return lambda: told.append(word)


async def test_what_is_put_off_during_a_work_is_done_at_its_end_in_its_order(told: list[str]) -> None:
    afterwards = Afterwards()

    def work() -> None:
        for word in ("one", "two"):
            afterwards.do(saying(told, word))
        told.append("work")

    afterwards.during(work)
    assert told == ["work", "one", "two"]
    await asyncio.sleep(0)
    assert told == ["work", "one", "two"]


async def test_outside_of_a_work_it_is_done_at_the_next_turn(told: list[str]) -> None:
    afterwards = Afterwards()
    afterwards.do(saying(told, "soon"))
    afterwards.during(saying(told, "work"))
    assert told == ["work"]
    await asyncio.sleep(0)
    assert told == ["work", "soon"]


async def test_what_is_put_off_by_what_was_put_off_is_left_to_the_next_turn(told: list[str]) -> None:
    """So no work is without an end."""
    afterwards = Afterwards()
    afterwards.during(lambda: afterwards.do(lambda: afterwards.do(saying(told, "later"))))
    assert told == []
    await asyncio.sleep(0)
    assert told == ["later"]


async def test_a_work_inside_another_has_an_end_of_its_own(told: list[str]) -> None:
    afterwards = Afterwards()

    def outer() -> None:
        afterwards.do(saying(told, "outer end"))
        afterwards.during(lambda: afterwards.do(saying(told, "inner end")))
        told.append("outer")

    afterwards.during(outer)
    assert told == ["inner end", "outer", "outer end"]


async def test_a_work_that_fails_has_its_end_too_and_tells_its_failure(told: list[str]) -> None:
    afterwards = Afterwards()

    def work() -> None:
        afterwards.do(saying(told, "end"))
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        afterwards.during(work)
    assert told == ["end"]
    afterwards.do(saying(told, "soon"))
    assert told == ["end"]
    await asyncio.sleep(0)
    assert told == ["end", "soon"]


@pytest.mark.parametrize("failure", [KeyError, asyncio.CancelledError])
async def test_one_that_fails_keeps_none_of_the_others_from_being_done(
    told: list[str], caplog: pytest.LogCaptureFixture, failure: type[BaseException]
) -> None:
    afterwards = Afterwards()

    def fail() -> None:
        raise failure("a bug")

    def work() -> None:
        for call in (fail, saying(told, "of another")):
            afterwards.do(call)

    with caplog.at_level(logging.ERROR):
        afterwards.during(work)
    assert told == ["of another"]
    assert "a bug" in caplog.text
