"""A clock that the test sets: nothing is due until it says so."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from support.waiting import bounded


@dataclass(eq=False)
class FakeTimer:
    """A call to come. Satisfies `life.Timer`."""

    delay: float
    due: float
    callback: Callable[[], object]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """Satisfies `life.Clock`."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._timers: list[FakeTimer] = []
        self._asked = asyncio.Event()

    def time(self) -> float:
        return self._now

    def call_later(self, delay: float, callback: Callable[[], object], /) -> FakeTimer:
        timer = FakeTimer(delay, self._now + delay, callback)
        self._timers.append(timer)
        self._asked.set()
        return timer

    async def waited_for(self, delay: float) -> None:
        """Somebody waits for so many seconds."""
        async with bounded():
            while all(timer.delay != delay or timer.cancelled for timer in self._timers):
                self._asked.clear()
                await self._asked.wait()

    @property
    def pending(self) -> list[float]:
        """The delays of the calls to come."""
        return [timer.delay for timer in self._timers if not timer.cancelled]

    def advance(self, seconds: float) -> None:
        """Let time pass, and make the calls that are due, in their order."""
        end = self._now + seconds
        while due := [timer for timer in self._timers if not timer.cancelled and timer.due <= end]:
            first = min(due, key=lambda timer: timer.due)
            self._timers.remove(first)
            self._now = max(self._now, first.due)
            first.callback()
        self._now = end
