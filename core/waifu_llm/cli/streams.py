"""The standard streams as a command finds them: closed, or in an encoding that does not have every character."""

import io
import os
import sys


def prepare() -> None:
    """See to it that no text fails for a character: what an encoding does not have is replaced.

    On a pipe Windows would give the encoding of old programs, which has neither Japanese nor emoji: it is UTF-8 there.
    """
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.StringIO())
        elif isinstance(stream, io.TextIOWrapper):
            if sys.platform == "win32" and not stream.isatty() and "PYTHONIOENCODING" not in os.environ:
                stream.reconfigure(encoding="utf-8")
            if name != "stderr":  # which shows the code of what it cannot show
                stream.reconfigure(errors="replace")
