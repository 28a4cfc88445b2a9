"""Where logs go: the core's own to stderr and a file, each worker's stderr to a file of its own; all redacted."""

import logging
import logging.handlers
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

from waifu_llm.redaction import Redactor

CORE_LOG: Final = "waifu-llm.log"
ROTATE_BYTES: Final = 5 * 1024 * 1024
_BUDGET_BYTES: Final = 1024 * 1024
_REFILL_PER_S: Final = 64 * 1024
_LONGEST_LINE: Final = 4096
_STAMP: Final = "%Y-%m-%dT%H:%M:%SZ"


class RedactingFormatter(logging.Formatter):
    """Formats a record, its traceback included, and takes every known secret out of the result."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", _STAMP)
        self.converter = time.gmtime  # as in the workers' logs, so that both can be read side by side
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        return self._redactor.scrub(super().format(record))


def set_up(folder: Path, level: str, redactor: Redactor, stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (default stderr) and `<folder>/waifu-llm.log`.

    A sink that breaks (stderr closed, disk full) never stops the module: logging does not raise.
    """
    logging.raiseExceptions = False
    formatter = RedactingFormatter(redactor)
    handlers: list[logging.Handler] = [logging.StreamHandler(stream or sys.stderr)]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handlers.append(
            logging.handlers.RotatingFileHandler(
                folder / CORE_LOG, maxBytes=ROTATE_BYTES, backupCount=1, encoding="utf-8", delay=True
            )
        )
    except OSError as error:
        logging.getLogger(__name__).warning("no log file: %s", error)
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(level.upper())
    logging.getLogger("websockets").setLevel(max(logging.WARNING, root.level))


class WorkerLog:
    """A worker's stderr as a file: whole lines, redacted, limited in rate and size; never raises.

    A long line is cut, a flood to about 64 KiB/s after the first MiB; how much was left out is said in the file.
    """

    def __init__(self, file: Path, redactor: Redactor, clock: Callable[[], float] = time.monotonic) -> None:
        self.file = file
        self._redactor = redactor
        self._clock = clock
        self._partial = b""
        self._budget = float(_BUDGET_BYTES)
        self._refilled = clock()
        self._left_out = 0

    def clean(self, text: str) -> str:
        """`text` without secrets. Before it is cut: of half a key nobody can tell that it is one."""
        return self._redactor.scrub(text)

    def note(self, text: str) -> None:
        """A line of our own about the worker."""
        self._append([f"[core] {text}"])

    def write(self, data: bytes) -> None:
        """Bytes of its stderr. Of a line only the first 4096 characters are kept."""
        *lines, partial = (self._partial + data).split(b"\n")
        # Twice as much as is shown, so that no key is cut in what is shown.
        self._partial = partial[: 2 * _LONGEST_LINE]
        kept = []
        for line in lines:
            shown = line[: 2 * _LONGEST_LINE]
            if self._afford(len(shown)):
                kept.append(shown.decode("utf-8", "replace").rstrip("\r"))
        self._append(kept)

    def flush(self) -> None:
        """Write the unfinished line: the process has ended."""
        if self._partial:
            self.write(b"\n")

    def _afford(self, size: int) -> bool:
        now = self._clock()
        self._budget = min(_BUDGET_BYTES, self._budget + (now - self._refilled) * _REFILL_PER_S)
        self._refilled = now
        if self._budget < size:
            self._left_out += 1
            return False
        self._budget -= size
        return True

    def _append(self, lines: list[str]) -> None:
        if not lines:
            return
        if self._left_out:
            lines.insert(0, f"[core] {self._left_out} lines left out: too many at once")
            self._left_out = 0
        stamp = datetime.now(UTC).strftime(_STAMP)
        text = "".join(f"{stamp} {self.clean(line)[:_LONGEST_LINE]}\n" for line in lines)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self.file.open("a", encoding="utf-8", errors="replace") as file:
                file.write(text)
                full = file.tell() > ROTATE_BYTES
            if full:
                self.file.replace(self.file.with_suffix(".log.1"))
        except OSError as error:
            logging.getLogger(__name__).warning("cannot write %s: %s", self.file, error)
