"""Deadlines of which most never come: one call of the loop for all of them."""

import asyncio

import pytest

from waifu_llm.server.timers import Timers

pytestmark = pytest.mark.virtual_time


class Heard:
    """What was called when, in seconds since the beginning."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self.timers: Timers[str] = Timers()
        self.calls: list[tuple[str, float]] = []

    def set(self, whose: str, after_s: float) -> None:
        self.timers.set(whose, self._begun + after_s, self.hear)

    def hear(self, whose: str) -> None:
        self.calls.append((whose, self._loop.time() - self._begun))


async def test_each_is_called_in_its_time_whatever_their_order_was() -> None:
    heard = Heard()
    for whose, after_s in (("late", 60.0), ("soon", 1.0), ("between", 30.0), ("with it", 30.0)):
        heard.set(whose, after_s)
    await asyncio.sleep(3600)
    assert heard.calls == [("soon", 1.0), ("between", 30.0), ("with it", 30.0), ("late", 60.0)]


async def test_what_is_dropped_is_not_called_and_the_others_are() -> None:
    heard = Heard()
    for whose in ("one", "other"):
        heard.set(whose, 1.0)
    heard.set("later", 2.0)
    heard.timers.drop("one")
    heard.timers.drop("one")
    await asyncio.sleep(3600)
    assert heard.calls == [("other", 1.0), ("later", 2.0)]


async def test_one_that_is_set_again_is_called_at_its_new_time_only() -> None:
    heard = Heard()
    heard.set("again", 1.0)
    heard.set("again", 5.0)
    await asyncio.sleep(3600)
    heard.set("again", 3601.0)
    await asyncio.sleep(3600)
    assert heard.calls == [("again", 5.0), ("again", 3601.0)]


async def test_one_that_fails_keeps_no_other_from_being_called() -> None:
    heard, failures = Heard(), list[object]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def fail(whose: str) -> None:
        raise LookupError(whose)

    heard.timers.set("bad", loop.time() + 1, fail)
    heard.set("good", 1.0)
    heard.set("later", 2.0)
    await asyncio.sleep(3600)
    assert heard.calls == [("good", 1.0), ("later", 2.0)]
    assert [str(failure) for failure in failures] == ["bad"]


async def test_after_the_end_none_is_called_and_one_that_is_set_then_is() -> None:
    heard = Heard()
    heard.set("before", 1.0)
    heard.timers.close()
    heard.timers.close()
    heard.set("after", 2.0)
    await asyncio.sleep(3600)
    assert heard.calls == [("after", 2.0)]
