"""One answer on its way to one program. What it does not read in time travels together, in fewer and larger chunks.

Whoever reads the answer from the module never waits for the program: what comes meanwhile is kept here, where it is
bounded, and not as one object per piece.
"""

import asyncio
from collections import deque
from io import StringIO
from types import TracebackType
from typing import Final, Self

from waifu_lollms.interfaces import Send
from waifu_lollms.tasks import Tasks

LONGEST_ANSWER: Final = 1024 * 1024  # characters; no model says that much
MOST_APART: Final = 512  # pieces that may wait before they are joined: more than come at once to a program that reads
LONGEST_CHUNK: Final = 64 * 1024  # characters of those that were joined


class Speech:
    """The text of one answer. While it is entered, what is added is sent; leaving it waits until all of it was.

    Where it is left by a cancellation nothing more is sent, and what was not is no part of the text. It may be entered
    again, one time after the other.
    """

    def __init__(self, send: Send, tasks: Tasks, request_id: str) -> None:
        self._send = send
        self._tasks = tasks
        self._request_id = request_id
        self._said = StringIO()
        self._room = LONGEST_ANSWER
        self._waiting: deque[str] = deque()
        self._rest = StringIO()  # what came after them
        self._news = asyncio.Event()
        self._complete = False
        self._telling: asyncio.Task[None] | None = None

    @property
    def text(self) -> str:
        """What was sent so far."""
        return self._said.getvalue()

    @property
    def has_begun(self) -> bool:
        """Whether anything was added."""
        return self._room < LONGEST_ANSWER

    def add(self, piece: str) -> bool:
        """Send it; False where it did not all fit into the longest answer."""
        said = piece[: self._room]
        self._room -= len(said)
        if said and len(self._waiting) < MOST_APART:
            self._waiting.append(said)
        else:
            self._rest.write(said)
        self._news.set()
        return said == piece

    async def __aenter__(self) -> Self:
        self._complete = False
        self._telling = self._tasks.start(self._tell())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        telling = self._telling
        assert telling is not None
        self._complete = True
        self._news.set()
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            telling.cancel()
        try:
            await asyncio.wait([telling])
        finally:
            telling.cancel()
        if kind is None and not telling.cancelled() and (failure := telling.exception()) is not None:
            raise failure

    async def _tell(self) -> None:
        while self._waiting or not self._complete:
            self._news.clear()
            while self._waiting:
                chunk = self._next()
                self._said.write(chunk)
                await self._send("text_chunk", {"chunk": chunk, "type": 0, "request_id": self._request_id})
            if not self._complete:
                await self._news.wait()

    def _next(self) -> str:
        if self._rest.tell():
            together = "".join(self._waiting) + self._rest.getvalue()
            self._rest = StringIO()
            self._waiting = deque(
                together[start : start + LONGEST_CHUNK] for start in range(0, len(together), LONGEST_CHUNK)
            )
        return self._waiting.popleft()
