"""Progress of a load or a build: one changing line on a terminal, else a line whenever something new is said."""

import shutil
import sys
from collections.abc import Callable

from waifu_llm.cli.text import one_line


class Progress:
    """Writes to stderr. `done` ends the changing line; use it as a context manager to be sure of that."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = ""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.done()

    def show(self, detail: str, fraction: float | None = None) -> None:
        """Say what happens now; `fraction` 0..1 where it is known."""
        text = one_line(detail)
        if self._terminal and fraction is not None:
            text = f"{text} ({fraction:.0%})"
        if text == self._last:
            return
        self._last = text
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{text[:width]}")
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def pass_by(self, detail: str, fraction: float | None = None) -> None:
        """Say what is soon over: on a terminal, where it will be written over, and nowhere else."""
        if self._terminal:
            self.show(detail, fraction)

    @property
    def drawing(self) -> Callable[[bytes], None] | None:
        """How a program draws its own progress in the place of ours; None without a (pseudo-)terminal."""
        return self._draw if self._terminal and sys.platform != "win32" else None

    def _draw(self, data: bytes) -> None:
        self.done()
        sys.stderr.buffer.write(data)
        sys.stderr.flush()

    def done(self) -> None:
        """Clear the changing line: what comes next stands in its place."""
        if self._terminal and self._last:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self._last = ""
