"""An owner of tasks: none is lost, and its end is the end of them all."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

_log: Final = logging.getLogger(__name__)


class Tasks:
    """A set of running tasks. A failure nobody waits for goes to the log."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, job: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run it until it ends or the owner closes."""
        task = asyncio.get_running_loop().create_task(job)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def room(self, most: int) -> None:
        """Wait until fewer than `most` run. Cancelling is safe."""
        while len(self._running) >= most:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)

    async def finish(self) -> None:
        """Wait until all have ended. Cancelling is safe: they go on."""
        while self._running:
            await asyncio.wait(self._running)

    async def close(self) -> None:
        """Cancel what runs and wait for it. Safe to repeat, and to cancel: then nothing is waited for."""
        while self._running:
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a bug: please report it", exc_info=error)
