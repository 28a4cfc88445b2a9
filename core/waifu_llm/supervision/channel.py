"""The wire to one worker or gateway process: lines in and out, bad lines counted, the last of its stderr kept.

One channel belongs to one spawned process and is never reused: an answer that arrives late from a process
that was replaced reaches a channel nobody listens to.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from waifu_llm.log import WorkerLog
from waifu_llm.supervision.afterwards import Afterwards
from waifu_llm.supervision.collector import TAIL_BYTES
from waifu_llm.supervision.process import Child
from waifu_worker import framing
from waifu_worker.wire import FromGateway, FromWorker, ToGateway, ToWorker

_log = logging.getLogger(__name__)

BAD_LINES: Final = 100
BAD_LINES_WINDOW_S: Final = 10.0
# An answer's end costs a hundred times what a piece of text does, and a pipe holds hundreds of them.
LINES_PER_TURN: Final = 32
UNSENT_LIMIT: Final = 64 * 1024 * 1024
LAST_LINE_CHARS: Final = 300
# What was said longer before the end than this has nothing to do with it.
LAST_WORDS_S: Final = 2.0
_SHOWN: Final = 200
_LOOKED_AT: Final = 8192
_KILLED: Final = -9
_NO_ERROR: Final = ("DEBUG ", "INFO ", "WARNING ")

M_contra = TypeVar("M_contra", bound=FromWorker | FromGateway, contravariant=True)
M = TypeVar("M", bound=FromWorker | FromGateway)


class ChannelFull(Exception):
    """The worker has not read its input for so long that no more is queued for it."""


class ChannelOwner(Protocol[M_contra]):
    """What a channel tells its owner."""

    def received(self, message: M_contra) -> None:
        """One message, in the process's order."""

    def broken(self, why: str) -> None:
        """The process breaks the rules of the wire and must be killed; told once."""

    def gone(self, returncode: int) -> None:
        """The process has ended; told once, nothing after it."""


class Channel(Generic[M]):
    """Implements `ChildEvents`. `decode` reads one line (`framing.decode_from_…`).

    What is put off to `afterwards` by whoever hears of the lines is done when all have been told that one turn takes.
    """

    def __init__(
        self,
        owner: ChannelOwner[M],
        log: WorkerLog,
        decode: Callable[[bytes], M],
        clock: Callable[[], float],
        afterwards: Afterwards,
    ) -> None:
        self._owner = owner
        self._log = log
        self._decode = decode
        self._clock = clock
        self._afterwards = afterwards
        self._splitter = framing.LineSplitter()
        self._bad: deque[float] = deque(maxlen=BAD_LINES)
        self._lines: deque[bytes] = deque()
        self._turn: asyncio.Handle | None = None
        self._broken = False
        self._strays = 0
        self._last_error = ""
        self._unended = b""
        self._said = self._heard_errors = clock()
        self._child: Child | None = None
        self.last_heard = clock()
        self.ended = False

    def attach(self, child: Child) -> None:
        """The process is there; until then nothing can be sent."""
        self._child = child

    @property
    def attached(self) -> bool:
        """Whether there is a process."""
        return self._child is not None

    @property
    def child(self) -> Child:
        """The process. Only after `attach`."""
        assert self._child is not None
        return self._child

    def send(self, message: ToWorker | ToGateway) -> None:
        """Queue one message; never blocks. Raises: ChannelFull; framing.LineTooLong."""
        line = framing.encode(message)
        child = self.child
        if child.unsent > UNSENT_LIMIT:
            raise ChannelFull
        child.write(line)

    def output(self, data: bytes) -> None:
        """Bytes from the worker's wire."""
        if self._broken:
            return
        self.last_heard = self._clock()
        try:
            lines = self._splitter.feed(data)
        except framing.LineTooLong as error:
            self._break(str(error))
            return
        self._lines.extend(lines)
        if self._turn is None:
            self._afterwards.during(self._take_lines)

    def _take_lines(self) -> None:
        """As many lines as one turn of the loop may take; the process waits with more until these are taken."""
        had_more, self._turn = self._turn is not None, None
        for _ in range(LINES_PER_TURN):
            if not self._lines:  # none are left, or it was found out meanwhile that it breaks the rules
                break
            self._take(self._lines.popleft())
        if self._lines:
            if self._child is not None:
                self._child.pause_reading()
            self._turn = asyncio.get_running_loop().call_soon(self._afterwards.during, self._take_lines)
        elif had_more and self._child is not None:
            self._child.resume_reading()

    def _take(self, line: bytes) -> None:
        try:
            message = self._decode(line)
        except framing.DECODE_ERRORS as error:
            self._bad_line(line, error)
            return
        try:
            self._owner.received(message)
        except Exception:
            # A bug of ours with one message: those behind it, of other requests, are to be heard all the same.
            _log.exception("an error inside the module: a message of a process is lost")

    def stray(self, request_id: int) -> None:
        """It speaks of a request that it does not have: told once, then counted."""
        self._strays += 1
        if self._strays == 1:
            self._log.note(f"an answer to request {request_id}, which it does not have; others are counted")

    def _bad_line(self, line: bytes, error: Exception) -> None:
        now = self._clock()
        self._bad.append(now)
        shown = self._log.clean(line[:_LOOKED_AT].decode("utf-8", "replace"))[:_SHOWN]
        self._log.note(f"a line that is no message ({type(error).__name__}): {shown!r}")
        if len(self._bad) == BAD_LINES and now - self._bad[0] < BAD_LINES_WINDOW_S:
            self._break(f"{BAD_LINES} lines that are no messages")

    def _break(self, why: str) -> None:
        if not self._broken:
            self._broken = True
            self._lines.clear()
            self._owner.broken(why)

    def errors(self, data: bytes) -> None:
        """Bytes of the worker's stderr: logged, and the last error among them kept."""
        self._log.write(data)
        self._heard_errors = self._clock()
        ended, _, self._unended = (self._unended + data)[-TAIL_BYTES:].rpartition(b"\n")
        if said := _last_error(ended):
            self._last_error, self._said = said, self._heard_errors

    def exited(self, returncode: int) -> None:
        """The process has ended. What it said is heard to the end; half a line it may have left is dropped with it.

        Its last words are those of its end: who was killed could say nothing of it.
        """
        if self._turn is not None:
            self._turn.cancel()
        while self._lines:
            self._take(self._lines.popleft())
        self._broken = True
        now = self._clock()
        if returncode == _KILLED or now - self._said > LAST_WORDS_S:
            self._last_error = ""
        if returncode == _KILLED or now - self._heard_errors > LAST_WORDS_S:
            self._unended = b""
        self._log.flush()
        if self._strays > 1:
            self._log.note(f"{self._strays} answers to requests that it did not have")
        self.ended = True
        self._owner.gone(returncode)

    def details(self) -> str:
        """How a sentence about this worker's end goes on: the last error it spoke of, and where its log is."""
        said = _last_error(self._unended) or self._last_error
        last = self._log.clean(said)[-LAST_LINE_CHARS:]
        return f": {last} (log: {self._log.file})" if last else f" (log: {self._log.file})"


def _last_error(data: bytes) -> str:
    """The last line of a log that may be the cause of an end, "" where none may."""
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line and not line.startswith(_NO_ERROR)), "")
