"""A child's standard error as a terminal: what it draws is shown to the user and kept as plain text besides."""

import asyncio
import contextlib
import os
import re
import shutil
import sys
from collections.abc import Callable
from typing import Final

_READ_BYTES: Final = 64 * 1024
_CONTROL: Final = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-Z\\-_]")
_LINE_ENDS: Final = re.compile(rb"[\r\n]+")


class Screen:
    """A pseudo-terminal. `draw` gets its bytes as they come, `keep` the same as plain lines. POSIX only."""

    def __init__(self, draw: Callable[[bytes], None], keep: Callable[[bytes], None]) -> None:
        self._draw = draw
        self._keep = keep
        self._loop = asyncio.get_running_loop()
        self._master = self.child_end = -1
        if sys.platform != "win32":
            import termios

            self._master, self.child_end = os.openpty()
            columns, lines = shutil.get_terminal_size()
            termios.tcsetwinsize(self.child_end, (lines, columns))
            os.set_blocking(self._master, False)
            self._loop.add_reader(self._master, self._read)

    def _read(self) -> None:
        # EIO is how Linux says that the last process has closed its end.
        try:
            data = os.read(self._master, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._draw(data)
            self._keep(_LINE_ENDS.sub(b"\n", _CONTROL.sub(b"", data)))
        else:
            self._loop.remove_reader(self._master)

    def started(self) -> None:
        """The child has its end: ours of it is closed, so that the child's is the last."""
        if self.child_end >= 0:
            os.close(self.child_end)
            self.child_end = -1

    def close(self) -> None:
        """Show what still lies there, and close. Safe to repeat."""
        self.started()
        if self._master < 0:
            return
        with contextlib.suppress(OSError):
            self._read()
        self._loop.remove_reader(self._master)
        os.close(self._master)
        self._master = -1
