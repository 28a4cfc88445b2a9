"""The one thread in which models are loaded and run, in the order in which it was asked for; imports no torch.

A model is not safe in two threads at once, so what comes meanwhile waits here and can be left while it waits.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from waifu_worker.provider import Finish, Piece

T = TypeVar("T")


class Speaker(Protocol):
    """Makes text in the engine's thread: `emit` takes each piece, `gone` says that nobody wants more."""

    def __call__(self, emit: Callable[[str], None], gone: threading.Event) -> Finish:
        """Run to the end, or until `gone`."""
        ...


class Engine:
    """Its thread begins with the first work and stays. The methods belong to the event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="torch")

    async def call(self, work: Callable[[], T]) -> T:
        """Do one thing and give its result. Raises: what it raises.

        Cancelling it is safe: what has not begun never will, what has begun is finished without anybody waiting.
        """
        return await asyncio.wrap_future(self._thread.submit(work))

    async def stream(self, speaker: Speaker) -> AsyncGenerator[Piece, None]:
        """The pieces as they are made, then the Finish. Raises: what `speaker` raises.

        Closing it early is safe and waits for nothing: `speaker` is told to stop, and what comes next waits for it.
        """
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        gone = threading.Event()

        def emit(text: str) -> None:
            if text and not gone.is_set():
                loop.call_soon_threadsafe(pieces.put_nowait, text)

        def ended(_: "Future[Any]") -> None:
            if not gone.is_set():
                loop.call_soon_threadsafe(pieces.put_nowait, None)

        working = self._thread.submit(speaker, emit, gone)
        working.add_done_callback(ended)
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield working.result()
        finally:
            gone.set()
            working.cancel()
