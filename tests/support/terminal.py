"""A program on a terminal of its own: what a person types, Ctrl-C included, and what they see."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from support.waiting import WAIT_S

# The program's standard input becomes its controlling terminal, so that Ctrl-C reaches it as a signal.
_LAUNCH = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
CTRL_C = "\x03"
CTRL_D = "\x04"


class Terminal:
    """Starts `argv` on a new terminal; `seen` is all that it wrote, with plain line ends."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        self._ours, theirs = os.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, *argv],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**environ, "TERM": "dumb"},
        )
        os.close(theirs)
        self.seen = ""
        self._looked = 0

    def press(self, text: str) -> None:
        """Press these keys."""
        os.write(self._ours, text.encode())

    def until(self, text: str) -> str:
        """Wait for `text` after what was waited for before; returns what stood before it."""
        end = time.monotonic() + WAIT_S
        while (found := self.seen.find(text, self._looked)) < 0:
            assert time.monotonic() < end, f"waited in vain for {text!r}; seen: {self.seen!r}"
            assert self._read(), f"it ended before {text!r}; seen: {self.seen!r}"
        before = self.seen[self._looked : found]
        self._looked = found + len(text)
        return before

    def interrupt(self, text: str) -> None:
        """Press Ctrl-C at a prompt, as often as it takes until `text` comes.

        Python's line editor misses one that comes in the moment before it waits for a key.
        """
        end = time.monotonic() + WAIT_S
        self.press(CTRL_C)
        while self.seen.find(text, self._looked) < 0:
            assert time.monotonic() < end, f"interrupted in vain; seen: {self.seen!r}"
            if not select.select([self._ours], [], [], 1.0)[0]:
                self.press(CTRL_C)
            else:
                assert self._read(), f"it ended before {text!r}; seen: {self.seen!r}"
        self.until(text)

    def end(self) -> int:
        """Read to the end and return the exit code."""
        while self._read():
            pass
        return self._process.wait(WAIT_S)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], WAIT_S)
        assert ready, f"it neither wrote nor ended; seen: {self.seen!r}"
        try:
            data = os.read(self._ours, 65536)
        except OSError:
            return False  # how Linux says that nobody has the terminal open any more
        self.seen += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(WAIT_S)
        os.close(self._ours)
