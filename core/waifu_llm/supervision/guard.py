"""The core's side of the guardian: it watches before there is anything to watch, and where it died another one does."""

import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import Final

from waifu_llm.supervision import guardian

_log = logging.getLogger(__name__)

GREETING_S: Final = 10.0
_END_S: Final = 2.0
_PAUSE_S: Final = 0.1


class Guard:
    """The guardian of one run. On Windows there is none: a job object does its work."""

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._process: asyncio.subprocess.Process | None = None
        self._starting: asyncio.Task[None] | None = None
        self._replacing: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Its pid while it watches."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def watching(self) -> None:
        """Return when it watches: a child started before could outlive a core that is killed in between.

        All who wait share one attempt. Cancelling it is safe. Raises: OSError where it does not come up in time.
        """
        self.begin()
        if self._starting is not None:
            await asyncio.shield(self._starting)

    def begin(self) -> None:
        """Start it beforehand: who needs it then waits for less, and hears of a failure."""
        if sys.platform == "win32" or self.pid is not None:
            return
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
            self._starting.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # seen: everybody who waited for it may have left

    async def _start(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(Path(guardian.__file__)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.defpath},
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(self._marker.encode() + b"\n")
            async with asyncio.timeout(GREETING_S):
                await process.stdout.readexactly(len(guardian.GREETING))
        except BaseException as error:
            await _end(process)
            if isinstance(error, TimeoutError | EOFError | ConnectionError):
                raise OSError(f"{sys.executable} does not start the guardian of this run's processes") from error
            raise
        self._process = process
        if self._replacing is None:
            self._replacing = asyncio.get_running_loop().create_task(self._replace())

    async def _replace(self) -> None:
        """Have another one watch where it was killed: children that run already would outlive a core that is, too."""
        while self._process is not None:
            code = await self._process.wait()
            _log.warning("the guardian of this run's processes ended (%d): starting another one", code)
            while self.pid is None:
                await asyncio.sleep(_PAUSE_S)
                with contextlib.suppress(OSError):
                    await self.watching()

    async def close(self) -> None:
        """Let it clean up and end, `guardian.LIMIT_S` and a moment at most."""
        for task in (self._replacing, self._starting):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await _ended(self._process, guardian.LIMIT_S + _END_S)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await _ended(process, _END_S)


async def _ended(process: asyncio.subprocess.Process, limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await process.wait()
