"""The core's side of the guardian: it watches before there is anything to watch, and where it died another one does."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from waifu_llm.supervision import guardian

_log = logging.getLogger(__name__)

GREETING_S: Final = 10.0
_END_S: Final = 2.0
_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_LINE_BYTES: Final = 1024


class Guard:
    """The guardian of one run. On Windows there is none: a job object does its work."""

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._process: asyncio.subprocess.Process | None = None
        self._starting: asyncio.Task[None] | None = None
        self._replacing: asyncio.TimerHandle | None = None
        # 0 while the last start went well.
        self._failed_pause_s = 0.0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Its pid while it watches."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def watching(self) -> None:
        """Return when it watches: a child started before could outlive a core that is killed in between.

        All who wait share one attempt. Cancelling it is safe. Raises: OSError where it does not come up in time, or
        the run is over.
        """
        if self._closed:
            raise OSError("this run is over: it starts no more processes")
        self.begin()
        if self._starting is not None:
            await asyncio.shield(self._starting)

    def begin(self) -> None:
        """Start it beforehand: who needs it then waits for less, and hears of a failure."""
        if sys.platform == "win32" or self.pid is not None or self._closed:
            return
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
            self._starting.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting = None
        if task.cancelled():
            return
        error = task.exception()  # seen: everybody who waited for it may have left
        if error is None:
            self._failed_pause_s = 0.0
        if self._process is not None and self.pid is None:
            self._begin_soon(_PAUSE_S if error is None else self._pause_after(error))

    def _pause_after(self, error: BaseException) -> float:
        """Twice that after the failure before, which the log has already."""
        if not self._failed_pause_s:
            _log.warning("no guardian of this run's processes can be started: trying again (%s)", error)
        self._failed_pause_s = min(2 * self._failed_pause_s or _PAUSE_S, _LONGEST_PAUSE_S)
        return self._failed_pause_s

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            lambda: _Streams(self._ended),
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
        process = asyncio.subprocess.Process(transport, protocol, loop)
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

    def _ended(self) -> None:
        """Have another one watch where it was killed: children that run already would outlive a core that is, too."""
        process = self._process
        if process is not None and process.returncode is not None and self._starting is None and not self._closed:
            _log.warning("the guardian of this run's processes ended (%d): starting another one", process.returncode)
            self._begin_soon(_PAUSE_S)

    def _begin_soon(self, pause_s: float) -> None:
        if self._replacing is not None:
            self._replacing.cancel()
        if not self._closed:
            self._replacing = asyncio.get_running_loop().call_later(pause_s, self.begin)

    async def close(self) -> None:
        """Let it clean up and end, `guardian.LIMIT_S` and a moment at most."""
        self._closed = True
        if self._replacing is not None:
            self._replacing.cancel()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await _ended(self._process, guardian.LIMIT_S + _END_S)


class _Streams(asyncio.subprocess.SubprocessStreamProtocol):
    """A process's pipes as streams, which says when it has ended: no task lives as long as it does."""

    def __init__(self, ended: Callable[[], None]) -> None:
        super().__init__(_LINE_BYTES, asyncio.get_running_loop())
        self._on_end = ended

    def process_exited(self) -> None:
        super().process_exited()
        self._on_end()


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await _ended(process, _END_S)


async def _ended(process: asyncio.subprocess.Process, limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await process.wait()
