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
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, NoReturn

from waifu_worker.framing import decode_to_worker
from waifu_worker.input import read_input
from waifu_worker.output import Output
from waifu_worker.provider import Provider
from waifu_worker.requests import Requests
from waifu_worker.stdio import Pipes
from waifu_worker.wire import BEAT_INTERVAL_S, MAGIC, WIRE_VERSION, Ready, ToWorker

_CLOSE_GRACE_S: Final = 1.0
_PR_SET_PDEATHSIG: Final = 1
_SIGKILL: Final = 9


def run(pipes: Pipes, name: str, package: str, abilities: Sequence[str]) -> NoReturn:
    """Be the worker `name`, whose provider is the attribute `Provider` of `package`.

    Never returns: the process ends with its input, or when its parent is gone, whatever else runs in it.
    """
    life = _Life()
    die_with_parent()
    # Before the import, which may take long: the core may go meanwhile.
    threading.Thread(target=life.watch, args=(pipes.source,), name="input", daemon=True).start()
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
    requests: Requests


class _Life:
    """The input thread's and the event loop's sides of one worker."""

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._inbox: deque[ToWorker] = deque()
        self._serving: _Serving | None = None
        self._next_beat = time.monotonic() + BEAT_INTERVAL_S

    async def serve(self, sink: int, make: Callable[[], Provider], ready: Ready) -> None:
        """Say ready and serve for ever: only the input thread ends a worker."""
        output = Output(sink, gone=_exit)
        output.send(ready)
        # What is imported stays: a collection that looks at it again keeps all streams waiting.
        gc.freeze()
        self._serving = _Serving(asyncio.get_running_loop(), output, Requests(make, output, ready.name))
        # What came before this found nobody; what comes from now on wakes the loop.
        self._drain()
        await asyncio.Event().wait()

    def watch(self, source: int) -> None:
        """The input thread: read, beat, and end the process with its input or its parent."""
        try:
            # Looked at once more: the parent may have died before its death was a signal.
            if os.getppid() == self._parent:
                read_input(source, decode_to_worker, self._deliver, self._tick)
        finally:
            self._leave()

    def _deliver(self, messages: list[ToWorker]) -> None:
        self._inbox.extend(messages)
        if self._serving is not None:
            self._serving.loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        assert self._serving is not None
        while self._inbox:
            self._serving.requests.handle(self._inbox.popleft())

    def _tick(self) -> bool:
        """About once a second: beat where one is due; False once the parent is gone."""
        if self._serving is not None and time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + BEAT_INTERVAL_S
            self._serving.output.beat()
        return os.getppid() == self._parent

    def _leave(self) -> None:
        """Let the providers close their connections, as far as that takes no time, and end the process."""
        try:
            if self._serving is not None:
                closing = asyncio.run_coroutine_threadsafe(self._serving.requests.close(), self._serving.loop)
                closing.result(_CLOSE_GRACE_S)
        except Exception as error:
            sys.stderr.write(f"left without closing the provider: {type(error).__name__}\n")
        finally:
            _exit()


def _exit() -> None:
    os._exit(0)


def die_with_parent() -> None:
    """Have Linux kill this process when its parent dies, also while it is stopped or holds the interpreter."""
    if sys.platform == "linux":
        # A Python that was built without libffi has no ctypes: the end of the input must do there.
        with contextlib.suppress(ImportError):
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
