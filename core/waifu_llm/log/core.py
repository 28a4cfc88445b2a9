"""The core's own log: to stderr and a file, redacted."""

import logging
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO

from waifu_llm.log import sinks
from waifu_llm.redaction import Redactor

CORE_LOG: Final = "waifu-llm.log"
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class RedactingFormatter(logging.Formatter):
    """Formats a record, its traceback included: no known secret in the result, and nothing that steers a terminal."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", sinks.STAMP)
        self.converter = time.gmtime  # as in the workers' logs, so that both can be read side by side
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        # A worker's last words may be in it.
        return _CONTROLS.sub(_escape, self._redactor.scrub(super().format(record)))


def _escape(control: re.Match[str]) -> str:
    return f"\\x{ord(control[0]):02x}"


class _Handler(logging.Handler):
    def __init__(self, redactor: Redactor, puts: list[Callable[[str], None]]) -> None:
        super().__init__()
        self.setFormatter(RedactingFormatter(redactor))
        self._puts = puts

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        for put in self._puts:
            put(text)


def set_up(folder: Path, level: str, redactor: Redactor, stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (default stderr) and `<folder>/waifu-llm.log`.

    A sink that breaks or blocks (stderr closed or read by nobody, disk full) never holds the module up: what cannot
    be written is counted and left out.
    """
    logging.raiseExceptions = False
    shown, file = stream or sys.stderr, folder / CORE_LOG
    sinks.complain_to(shown)
    root = logging.getLogger()
    root.handlers[:] = [
        _Handler(redactor, [lambda text: sinks.streams.put(shown, text), lambda text: sinks.files.put(file, text)])
    ]
    root.setLevel(level.upper())
    logging.getLogger("websockets").setLevel(max(logging.WARNING, root.level))
