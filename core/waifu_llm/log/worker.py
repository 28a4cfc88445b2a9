"""A worker's stderr as a file: whole lines, redacted, limited in rate and size."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from waifu_llm.log import sinks
from waifu_llm.redaction import Redactor

_BUDGET_BYTES: Final = 1024 * 1024
_REFILL_PER_S: Final = 64 * 1024
_LONGEST_LINE: Final = 4096
_STAMPED: Final = 22  # bytes that each line gets in front: without them empty lines would be free


class WorkerLog:
    """A worker's log. Its methods neither wait nor raise; `flush` of this package waits for the file.

    A long line is cut, a flood to about 64 KiB/s after the first MiB; how much was left out is said in the file.
    `redactor` is this log's own.
    """

    def __init__(self, file: Path, redactor: Redactor, clock: Callable[[], float] = time.monotonic) -> None:
        self.file = file
        self._redactor = redactor
        self._clock = clock
        self._partial = b""
        self._budget = float(_BUDGET_BYTES)
        self._refilled = clock()
        self._left_out = 0

    def learn(self, key: str | None) -> None:
        """From now on this key, however short, is taken out too."""
        self._redactor.add(key)

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
            if self._afford(len(shown) + _STAMPED):
                kept.append(shown.decode("utf-8", "replace").rstrip("\r"))
        if kept:
            self._append(kept)

    def flush(self) -> None:
        """Write the unfinished line: the process has ended."""
        if self._partial:
            self.write(b"\n")
        if self._left_out:
            self._append([])

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
        if self._left_out:
            lines.insert(0, f"[core] {self._left_out} lines left out: too many at once")
            self._left_out = 0
        stamp = sinks.stamp()
        # In one go: every known key is looked for each time, and there may be thousands of lines.
        clean = self.clean("\n".join(lines)).split("\n")
        sinks.files.put(self.file, "".join(f"{stamp} {line[:_LONGEST_LINE]}\n" for line in clean))
