"""Owns the bytes that leave a worker: whole lines, many in one write, at the latest when the loop has turned."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from typing import Final

from waifu_worker.framing import encode
from waifu_worker.wire import Beat, FromGateway, FromWorker

_BEAT: Final = encode(Beat())
# A turn that reads hundreds of streams takes milliseconds: the core has something to do meanwhile.
_LINES_AT_ONCE: Final = 16


class Output:
    """The wire's sending end. All methods but `beat` belong to the event loop it was made on.

    `gone` is called, from any thread, once nobody reads any more. `congested`: the pipe is full, and whoever
    makes text should await `room`. On Windows a pipe cannot be written without blocking: there a full pipe
    stops the loop until the core has read on, which it always does.
    """

    def __init__(self, sink: int, gone: Callable[[], None]) -> None:
        self._sink = sink
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._fresh: list[bytes] = []
        self._scheduled = False
        # What was handed to the pipe, shared with the thread that beats: guarded by the lock.
        self._lock = threading.Lock()
        self._unsent = memoryview(b"")
        self._armed = False
        self._room = asyncio.Event()
        self._room.set()
        self.congested = False
        if sys.platform != "win32":
            os.set_blocking(sink, False)

    def send(self, message: FromWorker | FromGateway) -> None:
        """Queue one message. Raises: LineTooLong."""
        self.write(encode(message))

    def write(self, line: bytes) -> None:
        """Queue one encoded line; never blocks, sent at the end of this turn of the loop, or earlier with others."""
        self._fresh.append(line)
        if len(self._fresh) >= _LINES_AT_ONCE:
            self._send_fresh()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    async def room(self) -> None:
        """Wait until the pipe takes more. Cancelling it is safe."""
        await self._room.wait()

    def beat(self) -> None:
        """Send a beat, from any thread; none where other lines still wait, since any line says the same."""
        with self._lock:
            if self._unsent:
                return
            self._unsent = memoryview(_BEAT)
            self._push()
            blocked = bool(self._unsent)
        if blocked:
            self._loop.call_soon_threadsafe(self._arm)

    def _flush(self) -> None:
        self._scheduled = False
        self._send_fresh()

    def _send_fresh(self) -> None:
        with self._lock:
            if not self._unsent and self._fresh:
                self._unsent = memoryview(b"".join(self._fresh))
                self._fresh.clear()
                self._push()
        self._arm()

    def _push(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._sink, self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = memoryview(b"")
            self._gone()

    def _arm(self) -> None:
        """Have the loop tell when the pipe takes more, where something is left."""
        if self._unsent and not self._armed:
            self._armed = self.congested = True
            self._room.clear()
            self._loop.add_writer(self._sink, self._writable)

    def _writable(self) -> None:
        with self._lock:
            self._push()
            if not self._unsent and self._fresh:
                self._unsent = memoryview(b"".join(self._fresh))
                self._fresh.clear()
                self._push()
            blocked = bool(self._unsent)
        if not blocked:
            self._loop.remove_writer(self._sink)
            self._armed = self.congested = False
            self._room.set()
