"""The deadlines of all running requests. Nearly all end long before theirs, so one call of the loop is for all."""

import asyncio
import math
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

# Looking through them takes at most a fifth of the loop's time, however many come one after the other.
_PAUSE: Final = 4


class Timers(Generic[T]):
    """Deadlines by whose they are, on the loop's clock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadlines: dict[object, tuple[float, Callable[[T], None], T]] = {}
        self._look: asyncio.TimerHandle | None = None
        self._look_due = math.inf

    def set(self, whose: T, at: float, call: Callable[[T], None]) -> None:
        """Call it at that time with whose it is, once, and nothing that was set for the same before."""
        self._deadlines[whose] = at, call, whose
        if at < self._look_due:
            self._look_at(at)

    def drop(self, whose: object) -> None:
        """Nothing is called for it. Safe to repeat, and for what never had a deadline."""
        self._deadlines.pop(whose, None)

    def close(self) -> None:
        """None is called any more."""
        self._deadlines.clear()
        self._look_due = math.inf
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _look_at(self, at: float) -> None:
        if self._look is not None:
            self._look.cancel()
        self._look_due = at
        self._look = self._loop.call_at(at, self._look_through)

    def _look_through(self) -> None:
        begun = self._loop.time()
        # A loop may be a little early.
        now = max(begun, self._look_due)
        self._look, self._look_due = None, math.inf
        for at, call, whose in list(self._deadlines.values()):
            if at <= now:
                del self._deadlines[whose]
                # Each by itself: what goes wrong with one is nothing to the others.
                self._loop.call_soon(call, whose)
        if self._deadlines:
            following = min(at for at, _, _ in self._deadlines.values())
            ended = self._loop.time()
            self._look_at(max(following, ended + _PAUSE * (ended - begun)))
