"""Owns the bytes that leave a worker: whole lines, one that comes alone at once, those close behind it in one write."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from waifu_worker.framing import encode
from waifu_worker.wire import Beat, FromGateway, FromWorker

_BEAT: Final = encode(Beat())
_NOTHING: Final = b""
# In seconds. A write, and the wake-up of the core for it, cost about as much as they would hurry a line that comes
# this soon after the last write: such lines wait for the end of the loop's turn, and leave together.
_SOON_S: Final = 0.0002
# A turn that reads hundreds of streams takes milliseconds: the core has something to do meanwhile.
_LINES_AT_ONCE: Final = 16


class Output:
    """The wire's sending end. All methods but `beat` belong to the event loop it was made on.

    `gone` is called, from any thread, once nobody reads any more; `clock` counts seconds. `congested`: the pipe is
    full, and whoever makes text should await `room`. On Windows a pipe cannot be written without blocking: there a
    full pipe stops the loop until the core has read on, which it always does.
    """

    # Not `monotonic`: on Windows it steps by 15.6 ms before Python 3.13, and a line that comes alone would seem soon.
    def __init__(self, sink: int, gone: Callable[[], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._sink = sink
        self._gone = gone
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._fresh: list[bytes] = []
        self._last = float("-inf")
        self._scheduled = False
        # What was handed to the pipe, shared with the thread that beats: guarded by the lock.
        self._lock = threading.Lock()
        self._unsent: bytes | memoryview = _NOTHING
        self._room = asyncio.Event()
        self._room.set()
        self.congested = False
        if sys.platform != "win32":
            os.set_blocking(sink, False)

    def send(self, message: FromWorker | FromGateway) -> None:
        """Queue one message. Raises: LineTooLong."""
        self.write(encode(message))

    def write(self, line: bytes, *, more: bool = False) -> None:
        """Send one encoded line; never blocks. It leaves at once, or at the end of this turn of the loop where others
        left just now. `more`: the caller writes another line before the loop turns, and that one takes this one along.
        """
        self._fresh.append(line)
        if more or self.congested:
            return
        if len(self._fresh) >= _LINES_AT_ONCE or not (self._scheduled or self._clock() - self._last < _SOON_S):
            self._advance()
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
            self._push(_BEAT)
            blocked = bool(self._unsent)
        if blocked:
            self._loop.call_soon_threadsafe(self._advance)

    def _flush(self) -> None:
        self._scheduled = False
        self._advance()

    def _advance(self) -> None:
        """Hand the pipe what it takes, and have the loop tell when it takes the rest."""
        with self._lock:
            if self._unsent:
                self._push(self._unsent)
            if self._fresh and not self._unsent:
                lines = b"".join(self._fresh)
                self._fresh.clear()
                self._push(lines)
                self._last = self._clock()
            full = bool(self._unsent)
        if full == self.congested:
            return
        self.congested = full
        if full:
            self._room.clear()
            self._loop.add_writer(self._sink, self._advance)
        else:
            self._loop.remove_writer(self._sink)
            self._room.set()

    def _push(self, data: bytes | memoryview) -> None:
        """Write as much as the pipe takes; what it does not is `_unsent`."""
        try:
            while (sent := os.write(self._sink, data)) < len(data):
                data = memoryview(data)[sent:]
            data = _NOTHING
        except BlockingIOError:
            pass
        except OSError:
            data = _NOTHING
            self._gone()
        self._unsent = data
