"""How fast one client may send: a token bucket. Pure; the clock is passed in."""

from typing import Final

_BURST_S: Final = 2.0


class Bucket:
    """Holds two seconds' worth of events, and fills up by `per_s` in a second. Times are seconds of one clock."""

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._most = per_s * _BURST_S
        self._left = self._most
        self._filled = now

    def take(self, now: float) -> bool:
        """Whether one more may come in now."""
        self._left = min(self._most, self._left + (now - self._filled) * self._per_s)
        self._filled = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
