"""Answers that cost time: whoever asks again and again gets the last one, so that nobody else waits for it."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

# Reading takes at most a fifth of the loop's time, however often somebody asks.
_KEPT_FOR: Final = 4


class Kept(Generic[T]):
    """What `read` gives, kept for a few times as long as the reading took.

    Both clocks are in seconds. `taken` measures the reading: where that waits for nothing, the thread's CPU time is
    better, since it does not count what other programs do meanwhile. Windows counts it in steps of 16 ms, which is
    right on average.
    """

    def __init__(self, read: Callable[[], T], clock: Callable[[], float], taken: Callable[[], float]) -> None:
        self._read = read
        self._clock = clock
        self._taken = taken
        self._kept: tuple[T, float] | None = None

    def get(self) -> T:
        """What was read last, read again where that is due. Raises: what `read` raises; that is not kept."""
        if self._kept is not None and self._clock() < self._kept[1]:
            return self._kept[0]
        begun = self._taken()
        value = self._read()
        self._kept = value, self._clock() + _KEPT_FOR * (self._taken() - begun)
        return value
