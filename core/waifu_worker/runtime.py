"""A worker's life: import the provider, say ready, serve until the input ends."""

import asyncio
import contextlib
import gc
import importlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, NoReturn

from waifu_worker.framing import decode_to_worker
from waifu_worker.heap import keep_what_reads_take
from waifu_worker.input import Input
from waifu_worker.output import Output
from waifu_worker.provider import Provider
from waifu_worker.requests import Requests
from waifu_worker.stdio import Pipes
from waifu_worker.wire import BEAT_INTERVAL_S, MAGIC, WIRE_VERSION, Ready

_CLOSE_GRACE_S: Final = 1.0
_PR_SET_PDEATHSIG: Final = 1
_SIGKILL: Final = 9


def run(pipes: Pipes, name: str, package: str, abilities: Sequence[str]) -> NoReturn:
    """Be the worker `name`, whose provider is the attribute `Provider` of `package`.

    Never returns: the process ends with its input, or when its parent is gone, whatever else runs in it.
    """
    life = _Life(pipes.source)
    die_with_parent()
    keep_what_reads_take()
    # Before the import, which may take long: the core may go meanwhile.
    threading.Thread(target=life.watch, name="input", daemon=True).start()
    ready = Ready(magic=MAGIC, wire=WIRE_VERSION, name=name, abilities=tuple(abilities))
    code = 1
    try:
        asyncio.run(life.serve(pipes.sink, importlib.import_module(package).Provider, ready))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
        traceback.print_exc()
    except BaseException:
        traceback.print_exc()
    # Not sys.exit: threads that the provider's packages left behind would keep the process.
    os._exit(code)


class _Serving(NamedTuple):
    """What there is once the worker is ready."""

    loop: asyncio.AbstractEventLoop
    output: Output
    over: asyncio.Event


class _Life:
    """The watching thread's and the event loop's sides of one worker."""

    def __init__(self, source: int) -> None:
        self._parent = os.getppid()
        self._input = Input(source, decode_to_worker)
        self._serving: _Serving | None = None
        self._next_beat = time.monotonic() + BEAT_INTERVAL_S

    async def serve(self, sink: int, make: Callable[[], Provider], ready: Ready) -> NoReturn:
        """Say ready, serve until the input is over, close the providers and end the process."""
        output = Output(sink, gone=_exit)
        output.send(ready)
        # What is imported stays: a collection that looks at it again keeps all streams waiting.
        gc.freeze()
        gc.enable()
        requests = Requests(make, output, ready.name)
        over = asyncio.Event()
        self._serving = _Serving(asyncio.get_running_loop(), output, over)
        self._input.open(requests.handle, over.set)
        await over.wait()
        # The watching thread allows it a moment.
        await requests.close()
        _exit()

    def watch(self) -> None:
        """The watching thread: beat, and end the process with its input or its parent, whatever the loop does."""
        try:
            # Looked at once more: the parent may have died before its death was a signal.
            if os.getppid() == self._parent:
                self._input.watch(self._tick)
        finally:
            self._leave()

    def _tick(self) -> bool:
        """About once a second: beat where one is due; False once the parent is gone."""
        if self._serving is not None and time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + BEAT_INTERVAL_S
            self._serving.output.beat()
        return os.getppid() == self._parent

    def _leave(self) -> None:
        """Let the loop close the providers' connections, as far as that takes no time, and end the process."""
        try:
            if self._serving is not None:
                self._serving.loop.call_soon_threadsafe(self._serving.over.set)
                time.sleep(_CLOSE_GRACE_S)
                sys.stderr.write("left without closing the provider\n")
        finally:
            _exit()


def _exit() -> NoReturn:
    os._exit(0)


def die_with_parent() -> None:
    """Have Linux kill this process when its parent dies, also while it is stopped or holds the interpreter."""
    if sys.platform == "linux":
        # A Python that was built without libffi has no ctypes: the end of the input must do there.
        with contextlib.suppress(ImportError):
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
