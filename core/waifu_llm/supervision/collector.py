"""What a command says that is run to its end."""

import asyncio
from collections.abc import Callable
from typing import Final

TAIL_BYTES: Final = 64 * 1024


class Collector:
    """Satisfies `process.ChildEvents`. `tail`: the last of all that it said; `ended`: its exit code.

    `on_line` is called with each line of its stderr. `until_line`: of its standard output only the beginning is kept,
    up to the piece in which a line ends, or `TAIL_BYTES`; `enough` says that it is there.
    """

    def __init__(self, on_line: Callable[[str], None] | None, *, until_line: bool = False) -> None:
        self._on_line = on_line
        self._until_line = until_line
        self.enough = False
        self._partial = b""
        self.stdout = bytearray()
        self.tail = bytearray()
        self.heard = asyncio.Event()
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def output(self, data: bytes) -> None:
        """Bytes of its standard output, kept until there is enough of them."""
        if not self.enough:
            self.stdout += data
            self.enough = self._until_line and (b"\n" in data or len(self.stdout) >= TAIL_BYTES)
        self._keep(data)

    def errors(self, data: bytes) -> None:
        """Bytes of its standard error, told line by line."""
        self._keep(data)
        if self._on_line is not None:
            *lines, self._partial = (self._partial + data).split(b"\n")
            for line in lines:
                self._on_line(line.decode("utf-8", "replace").rstrip("\r"))

    def drawn(self, data: bytes) -> None:
        """What the user has seen already: kept for the case that it fails."""
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        self.heard.set()
        self.tail += data
        del self.tail[:-TAIL_BYTES]

    def exited(self, returncode: int) -> None:
        """It has ended."""
        self.heard.set()
        if not self.ended.done():
            self.ended.set_result(returncode)
