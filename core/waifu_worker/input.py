"""A wire's receiving end: the event loop reads it, and a thread that nothing but its end wakes watches for that.

A provider may keep the loop busy, or its import may take long before there is a loop: the process must end with its
input all the same. Reading in the thread would cost each message two wake-ups and a fight for the interpreter.
"""

import asyncio
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, TypeVar

from waifu_worker.framing import DECODE_ERRORS, LineSplitter, LineTooLong

M = TypeVar("M")

# What a pipe holds. More than 128 KiB would be mapped and given back to the system for each read.
_READ_BYTES: Final = 64 * 1024
_TICK_S: Final = 1.0


class Input(Generic[M]):
    """The messages that come in; `decode` reads one line (`framing.decode_to_…`).

    `watch` belongs to a thread, `open` to the event loop; either may come first.
    """

    def __init__(self, source: int, decode: Callable[[bytes], M]) -> None:
        self._source = source
        self._decode = decode
        self._splitter = LineSplitter()
        self._inbox: deque[M] = deque()
        self._handle: Callable[[M], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: Callable[[], None] | None = None
        self._over = False

    def watch(self, tick: Callable[[], bool]) -> None:
        """Wait until the input ends or breaks, or `tick`, called about once a second, says no."""
        if sys.platform == "win32":
            self._read_in_thread(tick)
            return
        poller = select.poll()
        # No event is asked for: what is left is the other end's going, which is always told. macOS tells it only to
        # who reads: there, as after a line that is too long, the loop sees it, and this thread a second later.
        poller.register(self._source, 0)
        while not poller.poll(_TICK_S * 1000):
            if self._over or not tick():
                return

    def open(self, handle: Callable[[M], None], ended: Callable[[], None]) -> None:
        """From now on the running loop hands each message to `handle`, and calls `ended` where nothing more comes."""
        self._loop = asyncio.get_running_loop()
        self._handle = handle
        self._ended = ended
        if sys.platform == "win32":
            self._drain()
            return
        try:
            self._loop.add_reader(self._source, self._readable)
        except OSError as error:  # a file, or the null device
            _complain(error)
            self._end()

    def _readable(self) -> None:
        assert self._loop is not None
        messages = self._read()
        if messages is None:
            self._loop.remove_reader(self._source)
            self._end()
        else:
            self._inbox.extend(messages)
            self._drain()

    def _drain(self) -> None:
        assert self._handle is not None
        while self._inbox:
            self._handle(self._inbox.popleft())

    def _end(self) -> None:
        assert self._ended is not None
        self._over = True
        self._ended()

    def _read(self) -> list[M] | None:
        """The messages that one read completes; None where nothing more comes."""
        try:
            data = os.read(self._source, _READ_BYTES)
            lines = self._splitter.feed(data)
        except (OSError, LineTooLong) as error:
            _complain(error)
            return None
        return list(_decoded(lines, self._decode)) if data else None

    def _read_in_thread(self, tick: Callable[[], bool]) -> None:
        """Windows: no loop reads such a pipe, and nobody can wait for one with a limit, so ticks have their thread."""

        def tick_for_ever() -> None:
            while tick():
                time.sleep(_TICK_S)

        threading.Thread(target=tick_for_ever, name="tick", daemon=True).start()
        while (messages := self._read()) is not None:
            self._inbox.extend(messages)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._drain)


def _complain(error: Exception) -> None:
    sys.stderr.write(f"the input is unreadable: {error}\n")


def _decoded(lines: Iterable[bytes], decode: Callable[[bytes], M]) -> Iterator[M]:
    """The messages of these lines: one bad line must not end what else runs here."""
    for line in lines:
        try:
            yield decode(line)
        except DECODE_ERRORS as error:
            # The error's own text is left out: it may quote the line, and lines hold keys.
            sys.stderr.write(f"skipped a line of {len(line)} bytes that is no message ({type(error).__name__})\n")
