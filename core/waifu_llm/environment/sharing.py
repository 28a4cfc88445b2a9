"""One build for all who ask: a flight within this process, a file lock between processes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from waifu_llm.environment.model import BuildProgress, Environment
from waifu_llm.errors import Closing, InstallFailed

_POLL_S: Final = 0.05
_PATIENCE_S: Final = 2 * 3600.0


class Flight:
    """One environment being made ready by one task, and all who wait for it."""

    def __init__(self) -> None:
        self._result: asyncio.Future[Environment] = asyncio.get_running_loop().create_future()
        self._listeners: dict[object, Callable[[BuildProgress], None]] = {}
        self._last: BuildProgress | None = None

    def report(self, progress: BuildProgress) -> None:
        """Tell everybody who waits."""
        self._last = progress
        for listener in list(self._listeners.values()):
            listener(progress)

    def settle(self, task: asyncio.Task[Environment]) -> None:
        """The task is done: whoever waits gets what it gave; Closing where it was cancelled, even before it began."""
        if task.cancelled():
            self._result.set_exception(Closing("the module stops"))
        elif (error := task.exception()) is not None:
            self._result.set_exception(error)
        else:
            self._result.set_result(task.result())
        self._result.exception()  # seen: all who waited may have left

    async def wait(self, on_progress: Callable[[BuildProgress], None] | None) -> Environment:
        """The result; a late comer hears the last progress at once. Cancelling it is safe and stops nothing."""
        token = object()
        if on_progress is not None:
            self._listeners[token] = on_progress
            if self._last is not None:
                on_progress(self._last)
        try:
            # Unlike awaiting the future, this leaves it alone where the waiter is cancelled.
            await asyncio.wait({self._result})
        finally:
            self._listeners.pop(token, None)
        return self._result.result()


@asynccontextmanager
async def locked(
    path: Path, report: Callable[[BuildProgress], None], patience_s: float = _PATIENCE_S
) -> AsyncIterator[None]:
    """Alone with what `path` stands for, on the whole machine; the system frees it when this process dies.

    Raises: InstallFailed, OSError. Cancelling it is safe.
    """
    try:
        async with asyncio.timeout(patience_s):
            release = try_lock(path)
            if release is None:
                report(BuildProgress("another process is installing it"))
            while release is None:
                # The other process cannot tell this one: its lock is gone when it ends, however it ends.
                await asyncio.sleep(_POLL_S)
                release = try_lock(path)
    except TimeoutError as error:
        raise InstallFailed(f"another process has held {path.name} for hours; end it, then load again") from error
    try:
        yield
    finally:
        release()


def is_held(path: Path) -> bool:
    """Whether some process, or another part of this one, has that lock file now. Raises: OSError."""
    release = try_lock(path)
    if release is not None:
        release()
    return release is None


def try_lock(path: Path) -> Callable[[], None] | None:
    """Take the lock file if nobody has it; gives what frees it again, or None. Raises: OSError."""
    from filelock import FileLock, Timeout  # late: most starts of the module build nothing

    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock.release
