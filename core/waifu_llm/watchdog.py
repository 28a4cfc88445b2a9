"""Tells when the event loop was held up, and by what: a thread asks it for a sign of life over and over.

Whatever blocks the loop keeps every client waiting. The log gets the stack of the loop's thread as it was then: files,
lines and names of functions, no text that may hold a key, no values.
"""

import asyncio
import contextlib
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Final

_log = logging.getLogger(__name__)

BLOCKED_S: Final = 0.2
QUIET_S: Final = 10.0
_INTERVAL_S: Final = 0.2
_LATE_S: Final = 0.5
_FRAMES: Final = 12


@contextlib.contextmanager
def watching(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """While it lasts, it is told where the loop is blocked for `BLOCKED_S`, once in `QUIET_S` at most.

    To be used in the loop's own thread.
    """
    dog = _Watchdog(loop, threading.get_ident())
    # Not a name like those of threads whose work somebody waits for.
    thread = threading.Thread(target=dog.run, name="watchdog of the loop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        dog.stop()
        thread.join()


class Sparing:
    """Who tells something again and again tells it once in `quiet_s`, and counts meanwhile."""

    def __init__(self, quiet_s: float) -> None:
        self._quiet_s = quiet_s
        self._told_at: float | None = None
        self._untold = 0

    def ask(self, now: float) -> int | None:
        """How often it was not told since it was told last, if it may be told now; else None."""
        if self._told_at is not None and now - self._told_at < self._quiet_s:
            self._untold += 1
            return None
        untold, self._untold, self._told_at = self._untold, 0, now
        return untold


class _Watchdog:
    def __init__(self, loop: asyncio.AbstractEventLoop, watched: int) -> None:
        self._loop = loop
        self._watched = watched
        self._changed = threading.Condition()
        self._stopped = False
        self._alive = True
        self._sparing = Sparing(QUIET_S)

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _sign(self) -> None:
        with self._changed:
            self._alive = True
            self._changed.notify()

    def run(self) -> None:
        while not self._wait(_INTERVAL_S, until_alive=False):
            self._alive = False
            # The loop may be closed by now: then there is nothing left to watch.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._sign)
            begun = monotonic()
            if not self._wait(BLOCKED_S, until_alive=True) and not self._alive:
                # Where this thread too was held up, all of the process was: the machine slept, or C code held Python.
                if monotonic() - begun < BLOCKED_S + _LATE_S:
                    self._tell()
                self._wait(None, until_alive=True)

    def _wait(self, limit_s: float | None, *, until_alive: bool) -> bool:
        """Whether it is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or (until_alive and self._alive), limit_s)
            return self._stopped

    def _tell(self) -> None:
        untold = self._sparing.ask(monotonic())
        if untold is None:
            return
        stack = _stack(sys._current_frames().get(self._watched))
        before = f" ({untold} times more since this was told last)" if untold else ""
        _log.warning("the event loop was blocked for over %g s%s, in: %s", BLOCKED_S, before, stack)


def _stack(frame: FrameType | None) -> str:
    """The innermost functions, the last called first: "file.py:12 function < file.py:3 function"."""
    calls = traceback.walk_stack(frame)
    shown = [f"{_short(call.f_code.co_filename)}:{line} {call.f_code.co_name}" for call, line in calls]
    return " < ".join(shown[:_FRAMES])


def _short(file: str) -> str:
    return "/".join(Path(file).parts[-2:])
