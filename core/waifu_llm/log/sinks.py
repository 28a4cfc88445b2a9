"""Where lines end up: the terminal, and files that are renamed when they are full. Neither is ever waited for."""

import errno
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from waifu_llm.log.background import FLUSH_S, Background

STAMP: Final = "%Y-%m-%dT%H:%M:%SZ"
ROTATE_BYTES: Final = 5 * 1024 * 1024
_NAME: Final = "waifu_llm.log"
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)


def stamp() -> str:
    """The time as every line of a log begins with it."""
    return datetime.now(UTC).strftime(STAMP)


def notice(lines: int) -> str:
    """The line that stands for those that could not be written."""
    return f"{stamp()} WARNING {_NAME}: {lines} lines left out here: they came faster than they could be written\n"


def write_stream(stream: TextIO, text: str) -> None:
    """Write to the stream's descriptor itself.

    Past Python's own buffer: a thread that is held up in it has its lock, and an interpreter that ends aborts on that.
    """
    buffer = getattr(stream, "buffer", None)
    raw: Any = getattr(buffer, "raw", buffer)
    if raw is None:
        stream.write(text)
        return
    data = memoryview(text.encode(stream.encoding or "utf-8", "backslashreplace"))
    while data:
        written = raw.write(data)
        if not written:
            raise BlockingIOError("the stream takes nothing now")
        data = data[written:]


class Files:
    """Appends to files; one that cannot be written is told once to `complain_to`, until it can be again."""

    def __init__(self) -> None:
        self.complain_to: TextIO | None = None
        self._broken: set[Path] = set()

    def append(self, file: Path, text: str) -> None:
        """Append, and rename a file that is full now. Raises: OSError."""
        try:
            self._append(file, text)
        except OSError as error:
            if file not in self._broken and self.complain_to is not None:
                streams.put(self.complain_to, f"{stamp()} WARNING {_NAME}: cannot write {file}: {error}\n")
            self._broken.add(file)
            raise
        self._broken.discard(file)

    def _append(self, file: Path, text: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if file.parent.is_symlink():
            raise OSError(errno.ELOOP, "its folder is a link")
        with os.fdopen(os.open(file, _APPEND, 0o600), "ab") as opened:
            opened.write(text.encode("utf-8", "replace"))
            full = opened.tell() > ROTATE_BYTES
        if full:
            file.replace(file.with_suffix(".log.1"))


_files: Final = Files()
streams: Final[Background[TextIO]] = Background(write_stream, notice)
files: Final[Background[Path]] = Background(_files.append, notice)


def complain_to(stream: TextIO | None) -> None:
    """Where it is told that a file cannot be written."""
    _files.complain_to = stream


def flush(timeout_s: float = FLUSH_S) -> bool:
    """Wait until all that was logged is written, at most so long; whether it is."""
    end = time.monotonic() + timeout_s
    return files.flush(timeout_s) & streams.flush(max(0.0, end - time.monotonic()))
