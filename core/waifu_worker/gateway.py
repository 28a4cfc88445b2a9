"""A gateway's life: wait for its start line, say ready, serve until the input ends."""

import asyncio
import contextlib
import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NoReturn, TypeAlias

from waifu_worker.framing import decode_to_gateway
from waifu_worker.heap import keep_what_reads_take
from waifu_worker.input import Input
from waifu_worker.output import Output
from waifu_worker.runtime import die_with_parent
from waifu_worker.stdio import Pipes
from waifu_worker.wire import BEAT_INTERVAL_S, MAGIC, WIRE_VERSION, GatewayFailed, GatewayReady, Start

# Less than the core waits at the end of the input before it uses force.
_CLOSE_GRACE_S: Final = 1.5

Serve: TypeAlias = Callable[[Start], AbstractAsyncContextManager[str]]


class CannotServe(Exception):
    """The gateway cannot do its work; the message is one sentence that says what to do."""


def run_gateway(pipes: Pipes, name: str, serve: Serve) -> NoReturn:
    """Be the gateway `name`. `serve(start)` listens while it is entered, and gives the address users open.

    It may raise CannotServe. Never returns: the process ends with its input, or when its parent is gone; what `serve`
    has to close then gets a moment for it.
    """
    die_with_parent()
    keep_what_reads_take()
    # What is imported stays: no collection needs to look at it.
    gc.freeze()
    gc.enable()
    asyncio.run(_live(pipes, name, serve))
    raise AssertionError("unreachable")


async def _live(pipes: Pipes, name: str, serve: Serve) -> NoReturn:
    code = 1
    try:
        await _Life(pipes, name).live(serve)
        code = 0
    except CannotServe as error:
        sys.stderr.write(f"{error}\n")
    except BaseException:
        traceback.print_exc()
    # Not sys.exit, and not after the loop: a thread that hangs in a package would keep the process.
    os._exit(code)


class _Life:
    """The watching thread's and the event loop's sides of one gateway."""

    def __init__(self, pipes: Pipes, name: str) -> None:
        self._sink = pipes.sink
        self._input = Input(pipes.source, decode_to_gateway)
        self._name = name
        self._parent = os.getppid()
        self._loop = asyncio.get_running_loop()
        self._start: asyncio.Future[Start] = self._loop.create_future()
        self._over = asyncio.Event()
        self._output: Output | None = None
        self._next_beat = time.monotonic() + BEAT_INTERVAL_S

    async def live(self, serve: Serve) -> None:
        self._input.open(self._started, self._over.set)
        threading.Thread(target=self._watch, name="input", daemon=True).start()
        over = asyncio.create_task(self._over.wait())
        either: set[asyncio.Future[Any]] = {self._start, over}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._start.done():
            return
        output = Output(self._sink, gone=lambda: os._exit(0))
        try:
            async with serve(self._start.result()) as address:
                output.send(GatewayReady(magic=MAGIC, wire=WIRE_VERSION, name=self._name, address=address))
                self._output = output
                await over
        except CannotServe as error:
            output.send(GatewayFailed(message=str(error)))
            await asyncio.sleep(0)  # lines leave at the end of a turn of the loop at the latest
            raise

    def _watch(self) -> None:
        """The watching thread: beat, and end the process with its input or its parent, whatever the loop does."""
        try:
            if os.getppid() == self._parent:
                self._input.watch(self._tick)
        finally:
            with contextlib.suppress(RuntimeError):  # the loop may be at its end by itself
                self._loop.call_soon_threadsafe(self._over.set)
            # The loop closes what it serves and ends the process; one that hangs does not keep it.
            time.sleep(_CLOSE_GRACE_S)
            os._exit(0)

    def _started(self, start: Start) -> None:
        if not self._start.done():
            self._start.set_result(start)

    def _tick(self) -> bool:
        """About once a second: beat where one is due; False once the parent is gone."""
        if self._output is not None and time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + BEAT_INTERVAL_S
            self._output.beat()
        return os.getppid() == self._parent
