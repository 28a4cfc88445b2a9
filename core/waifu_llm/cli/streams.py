"""The standard streams as a command finds them: closed, or in an encoding that does not have every character."""

import io
import os
import sys


class Nowhere(io.StringIO):
    """A stream that keeps nothing of what is written to it."""

    def write(self, text: str) -> int:
        """Take it."""
        return len(text)


def prepare() -> None:
    """See to it that no text fails for a character: what an encoding does not have is replaced.

    A descriptor that is closed is opened on nothing: else the next socket would take its number, and what a library
    writes to its standard error would go out to a client.
    On a pipe Windows would give the encoding of old programs, which has neither Japanese nor emoji: it is UTF-8 there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Nowhere())
        elif isinstance(stream, io.TextIOWrapper):
            if sys.platform == "win32" and not stream.isatty() and "PYTHONIOENCODING" not in os.environ:
                stream.reconfigure(encoding="utf-8")
            if name != "stderr":  # which shows the code of what it cannot show
                stream.reconfigure(errors="replace")
