"""An event loop in a thread of its own, so that the main thread can wait for the keyboard, where Ctrl-C arrives."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")
# Windows wakes no waiting thread for Ctrl-C, so a wait must end now and then.
_LOOK_AGAIN_S: Final = 0.25


class LoopThread(Generic[T]):
    """Holds an asynchronous context open in its loop; `run` does work there. A context manager itself.

    All methods are for the main thread. Leaving it closes the context, whatever happened.
    """

    def __init__(self, held: AbstractAsyncContextManager[T]) -> None:
        self._held = held
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chat-loop", daemon=True)
        self._leave = asyncio.Event()
        self._entered: Future[T] = Future()
        self._left: Future[None] = Future()
        self._holding: asyncio.Task[None] | None = None
        self._working: asyncio.Task[None] | None = None
        self._interrupted = False

    def __enter__(self) -> Self:
        self._thread.start()
        self._loop.call_soon_threadsafe(self._begin_to_hold)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._let_go)
        _wait(self._left)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if kind is None:
            self._left.result()

    def value(self) -> T:
        """What the context gave, waiting until it is entered. Raises: what entering it raised."""
        _wait(self._entered)
        return self._entered.result()

    def run(self, work: Coroutine[object, object, R]) -> R:
        """Wait for the end of `work`. Raises: asyncio.CancelledError after `interrupt`, else what it raises."""
        ended: Future[R] = Future()
        self._loop.call_soon_threadsafe(self._begin, work, ended)
        _wait(ended)
        self._interrupted = False
        return ended.result()

    def interrupt(self) -> bool:
        """Cancel what runs, or what runs next; for signal handlers too. False where that was asked for already."""
        if self._interrupted:
            return False
        self._interrupted = True
        self._loop.call_soon_threadsafe(self._cancel)
        return True

    def _begin(self, work: Coroutine[object, object, R], ended: Future[R]) -> None:
        async def carry() -> None:
            try:
                ended.set_result(await work)
            except BaseException as error:
                ended.set_exception(error)
            finally:
                self._working = None

        if self._interrupted:
            work.close()
            ended.set_exception(asyncio.CancelledError())
        else:
            self._working = self._loop.create_task(carry())

    def _cancel(self) -> None:
        if self._working is not None:
            self._working.cancel()

    def _begin_to_hold(self) -> None:
        self._holding = self._loop.create_task(self._hold())

    def _let_go(self) -> None:
        assert self._holding is not None
        self._leave.set()
        if not self._entered.done():
            self._holding.cancel()

    async def _hold(self) -> None:
        try:
            async with self._held as value:
                self._entered.set_result(value)
                await self._leave.wait()
        except BaseException as error:
            if self._entered.done():
                self._left.set_exception(error)
            else:
                self._entered.set_exception(error)
        if not self._left.done():
            self._left.set_result(None)


def _wait(future: Future[R]) -> None:
    while not future.done():
        wait([future], timeout=_LOOK_AGAIN_S)
