"""Reads a worker's input on a thread of its own, so that a busy provider cannot miss its end."""

import os
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from waifu_worker.framing import DECODE_ERRORS, LineSplitter, LineTooLong, decode_to_worker
from waifu_worker.wire import ToWorker

_READ_BYTES: Final = 256 * 1024
_TICK_S: Final = 1.0


def read_input(source: int, deliver: Callable[[list[ToWorker]], None], tick: Callable[[], bool]) -> None:
    """Read messages until the input ends, or breaks, or `tick` says no.

    `deliver` gets the messages of one read, `tick` is called about once a second.
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
        messages = [message for message in map(_decode, lines) if message is not None]
        if messages:
            deliver(messages)


def _decode(line: bytes) -> ToWorker | None:
    """The message of one line, or None: one bad line must not end what else runs here."""
    try:
        return decode_to_worker(line)
    except DECODE_ERRORS as error:
        # The error's own text is left out: it may quote the line, and lines hold keys.
        sys.stderr.write(f"skipped a line of {len(line)} bytes that is no message ({type(error).__name__})\n")
        return None


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
