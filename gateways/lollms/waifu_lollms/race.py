"""Of several that change the same thing at once the one asked for last wins. Pure."""

from collections.abc import Iterator
from contextlib import contextmanager


class Race:
    """Who takes part. One that fails or gives up stands in nobody's way."""

    def __init__(self) -> None:
        self._last = 0
        self._winner = 0
        self._running: set[int] = set()

    @contextmanager
    def entry(self) -> Iterator["Entry"]:
        """Take part until the end of the block, with the place of its beginning; whoever wins says so within it."""
        self._last += 1
        number = self._last
        try:
            yield Entry(self, number)
        finally:
            self._running.discard(number)

    def _run(self, number: int) -> None:
        self._running.add(number)

    def _win(self, number: int) -> bool:
        if self._winner > number or any(other > number for other in self._running):
            return False
        self._winner = number
        return True


class Entry:
    """One that takes part."""

    def __init__(self, race: Race, number: int) -> None:
        self._race = race
        self._number = number

    def runs(self) -> None:
        """What was asked for is possible: from now on, and not before, it stands in the way of earlier ones."""
        self._race._run(self._number)

    def wins(self) -> bool:
        """Whether nobody asked after this one; then those that asked before it have lost."""
        return self._race._win(self._number)
