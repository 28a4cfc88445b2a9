"""The real module on a free port, in the test's own process; its workers are processes as ever."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from support.waiting import WAIT_S, bounded

from waifu_llm.config import ServerSettings, Settings
from waifu_llm.module import run_module
from waifu_llm.paths import Home


class RunningModule:
    """Where it listens, and how to end it."""

    def __init__(self, home: Path) -> None:
        self.url = ""
        self._stop = asyncio.Event()
        self._listening = asyncio.Event()
        self._running = asyncio.create_task(
            run_module(
                Settings(server=ServerSettings(port=0)),
                Home(home),
                os.environ,
                on_listening=self._listens,
                stop=self._stop,
            )
        )

    async def listening(self) -> None:
        """Clients can connect. Raises: what kept it from listening."""
        event = asyncio.ensure_future(self._listening.wait())
        await asyncio.wait([event, self._running], timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        event.cancel()
        if not self._listening.is_set():
            self._running.result()

    async def stop(self) -> int:
        """Drain it; its exit code. Safe to repeat."""
        self._stop.set()
        return await self.ended()

    async def ended(self) -> int:
        """It has ended by itself."""
        async with bounded():
            return await self._running

    def _listens(self, url: str) -> None:
        self.url = url
        self._listening.set()


@asynccontextmanager
async def running_module(home: Path) -> AsyncIterator[RunningModule]:
    """Runs until the end of the block, or until somebody closes it."""
    module = RunningModule(home)
    await module.listening()
    try:
        yield module
    finally:
        await module.stop()
