"""Reads a worker's input on a thread of its own, so that a busy provider cannot miss its end."""

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from waifu_worker.framing import DECODE_ERRORS, LineSplitter, LineTooLong

M = TypeVar("M")

_READ_BYTES: Final = 256 * 1024
_TICK_S: Final = 1.0


def read_input(
    source: int, decode: Callable[[bytes], M], deliver: Callable[[list[M]], None], tick: Callable[[], bool]
) -> None:
    """Read messages until the input ends, or breaks, or `tick` says no.

    `decode` reads one line (`framing.decode_to_…`). `deliver` gets the messages of one
    read, `tick` is called about once a second.
    """
    splitter = LineSplitter()
    wait = _waiter(source, tick)
    next_tick = time.monotonic() + _TICK_S
    while True:
        readable = wait()
        if time.monotonic() >= next_tick:
            next_tick = time.monotonic() + _TICK_S
            if not tick():
                return
        if not readable:
            continue
        try:
            data = os.read(source, _READ_BYTES)
            lines = splitter.feed(data)
        except (OSError, LineTooLong) as error:
            sys.stderr.write(f"the input is unreadable: {error}\n")
            return
        if not data:
            return
        messages = list(_decoded(lines, decode))
        if messages:
            deliver(messages)


def _decoded(lines: Iterable[bytes], decode: Callable[[bytes], M]) -> Iterator[M]:
    """The messages of these lines: one bad line must not end what else runs here."""
    for line in lines:
        try:
            yield decode(line)
        except DECODE_ERRORS as error:
            # The error's own text is left out: it may quote the line, and lines hold keys.
            sys.stderr.write(f"skipped a line of {len(line)} bytes that is no message ({type(error).__name__})\n")


def _waiter(source: int, tick: Callable[[], bool]) -> Callable[[], bool]:
    """A function that waits for input, at most until the next tick, and says whether there is some."""
    if sys.platform == "win32":
        # It cannot wait for a pipe with a limit: reading blocks there, and the ticks get a thread of their own.
        def tick_for_ever() -> None:
            while tick():
                time.sleep(_TICK_S)

        threading.Thread(target=tick_for_ever, name="tick", daemon=True).start()
        return lambda: True
    poller = select.poll()
    poller.register(source, select.POLLIN)
    return lambda: bool(poller.poll(_TICK_S * 1000))
