"""The one writer of a connection: what its outbox holds goes out in batches; who does not read is given up."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from waifu_client.protocol import AnyReply, RequestId
from waifu_llm.config import LimitSettings
from waifu_llm.outbox import Outbox
from waifu_llm.server.frames import is_open, write_texts
from waifu_llm.supervision.afterwards import Afterwards

# How long a client may take to answer a close frame before its socket is cut.
CLOSE_S: Final = 2.0
_TRY_AGAIN_LATER: Final = 1013
# A client for whom thousands of messages wait must not keep the loop from the others.
_WRITE_FOR_S: Final = 0.002
# One write at most, so that a client that reads slowly is seen to read.
_WRITE_BYTES: Final = 64 * 1024

_log = logging.getLogger(__name__)


class Writer:
    """Owns a connection's outbox and the end of its socket.

    What waits is written at the end of what brought it (see `Afterwards`), and by a task only while the client, or the
    others, have to be waited for: an idle connection has none.
    `on_give_up` is called, once, where the client does not read.
    """

    __slots__ = (
        "_afterwards", "_ending", "_farewell", "_gone", "_limits", "_loop", "_messages_written", "_on_give_up",
        "_outbox", "_socket", "_unwritten", "_watch", "_woken", "_writing",
    )  # fmt: skip

    def __init__(
        self, socket: ServerConnection, limits: LimitSettings, afterwards: Afterwards, on_give_up: Callable[[], None]
    ) -> None:
        self._socket = socket
        self._limits = limits
        self._afterwards = afterwards
        self._on_give_up = on_give_up
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(limits.pending_bytes)
        # What was taken out and is not written yet.
        self._unwritten: list[list[bytes]] = []
        self._woken = False
        self._writing: asyncio.Task[None] | None = None
        self._gone = False
        self._ending: tuple[int, str] | None = None
        self._farewell: asyncio.Task[None] | None = None
        self._messages_written = 0
        self._watch: asyncio.TimerHandle | None = None

    @property
    def ending(self) -> bool:
        """The socket is being closed from this side."""
        return self._ending is not None

    def put(self, reply: AnyReply) -> None:
        """Send a message that is not a chunk."""
        self._outbox.put(reply)
        self._pending()

    def put_chunks(self, stream: object, request_id: RequestId, texts: Sequence[str]) -> None:
        """Send chunks of a stream."""
        self._outbox.put_chunks(stream, request_id, texts)
        self._pending()

    def end(self, code: int, reason: str) -> None:
        """Close the socket once everything that waits is written; the first code given stands."""
        if self._ending is None:
            self._ending = (code, reason)
            self._wake()

    def cut(self) -> None:
        """End the socket now."""
        self._socket.transport.abort()

    async def close(self) -> None:
        """Cut the socket and write no more; returns when nothing of it is left. Cancelling it is safe."""
        self._gone = True
        self.cut()
        if self._writing is not None:
            self._writing.cancel()
        for task in (self._writing, self._farewell):
            if task is not None:
                await asyncio.wait((task,))

    def _wake(self) -> None:
        """Have what waits written: all that a worker said at once, or all that one turn of the loop brings."""
        if not self._woken and self._writing is None and not self._gone:
            self._woken = True
            self._afterwards.do(self._write_at_once)

    def _write_at_once(self) -> None:
        """Without a task, where nobody has to be waited for: nearly always."""
        self._woken = False
        if self._gone:
            return
        try:
            done = self._ending is None and is_open(self._socket) and self._write_some()
        except Exception:
            _log.exception("an error inside the module")
            self.cut()
        else:
            if not done:
                self._writing = self._loop.create_task(self._write())

    def _write_some(self) -> bool:
        """Whether all that waits is written now; else the client has to be waited for, or the others are let on."""
        begun = self._loop.time()
        while self._unwritten or self._outbox.waits:
            if not self._unwritten:
                self._unwritten.extend(_parts(self._outbox.take()))
            messages = self._unwritten.pop(0)
            write_texts(self._socket, messages)
            self._messages_written += len(messages)
            if self._socket.transport.get_write_buffer_size():
                return False
            if self._unwritten and self._loop.time() - begun >= _WRITE_FOR_S:
                return False
        self._outbox.written()
        return True

    async def _write(self) -> None:
        try:
            done = False
            while not done:
                await self._let_on()
                done = self._write_some()
            if self._ending is not None:
                await self._close(*self._ending)
        except (ConnectionClosed, OSError):
            self.cut()
        except Exception:
            _log.exception("an error inside the module")
            self.cut()
        finally:
            self._stop_watching()
            self._writing = None

    async def _let_on(self) -> None:
        """Until the client may be sent more, and the others had their turn. Raises: ConnectionClosed."""
        if self._socket.transport.get_write_buffer_size():
            await self._drain()
        else:
            await asyncio.sleep(0)
        if not is_open(self._socket):
            # It waits for the end of the closing handshake and says why it ended.
            await self._socket.send(b"", text=True)

    async def _drain(self) -> None:
        self._watch_progress()
        try:
            await self._socket.drain()
        finally:
            self._stop_watching()

    async def _close(self, code: int, reason: str) -> None:
        """Say goodbye where the client still reads, and cut the socket in any case."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close(code, reason)
        except TimeoutError:
            _log.debug("a client did not answer the close frame %d", code)
        finally:
            self.cut()

    # Clients that do not read.

    def _pending(self) -> None:
        self._wake()
        if self._outbox.overflowing:
            self._give_up("too much waits for it")

    def _progress(self) -> tuple[int, int]:
        return self._messages_written, -self._socket.transport.get_write_buffer_size()

    def _watch_progress(self) -> None:
        self._watch = self._loop.call_later(self._limits.stall_s, self._check_progress, self._progress())

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _check_progress(self, before: tuple[int, int]) -> None:
        if self._progress() > before:
            self._watch_progress()
        else:
            self._give_up(f"it has read nothing for {self._limits.stall_s:.0f} s")

    def _give_up(self, reason: str) -> None:
        """A client that does not read costs the others nothing more."""
        self._outbox.discard()
        self._unwritten.clear()
        if self._gone or self._farewell is not None:
            return
        _log.warning("disconnecting a client that does not read: %s", reason)
        self._ending = (_TRY_AGAIN_LATER, reason)
        self._stop_watching()
        # The writer itself hangs in the stalled socket; cutting that is what frees it.
        self._farewell = self._loop.create_task(self._close(_TRY_AGAIN_LATER, reason))
        # Not from here: the text that was too much may come from inside the pool, which is then told to cancel.
        self._loop.call_soon(self._on_give_up)


def _parts(batch: list[bytes]) -> list[list[bytes]]:
    """A batch in as many writes as its size asks for, mostly one."""
    if sum(map(len, batch)) <= _WRITE_BYTES:
        return [batch]
    parts: list[list[bytes]] = [[]]
    size = 0
    for message in batch:
        if parts[-1] and size + len(message) > _WRITE_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(message)
        size += len(message)
    return parts
