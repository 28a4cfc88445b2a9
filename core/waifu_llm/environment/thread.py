"""Work that blocks, in threads that nobody's exit waits for: a stop asks them to end and goes on."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, ParamSpec, TypeVar

_NAME: Final = "waifu-llm-disk"
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Halted(Exception):
    """What a thread ends its work with once it was asked to; nobody waits for it any more."""


class Halt:
    """Asks the work in a thread to end. Set from the loop, looked at by the thread between its steps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False

    def set(self) -> None:
        """From now on every look ends the work; a last step that has begun is over when this returns."""
        with self._lock:
            self._is_set = True

    def look(self) -> None:
        """Raises: Halted."""
        if self._is_set:
            raise Halted

    @contextlib.contextmanager
    def last_step(self) -> Iterator[None]:
        """A short step that is done before `set` returns, or never. Raises: Halted."""
        with self._lock:
            self.look()
            yield


async def in_thread(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What `work` gives or raises. Cancelling it is safe and waits for nothing: the thread goes on by itself, so what
    it must not do then, it asks a `Halt` about.

    Unlike `asyncio.to_thread`, whose threads both the loop and the interpreter wait for before they end.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(tell: Callable[[Any], None], outcome: object) -> None:
        if not done.done():
            tell(outcome)

    def run() -> None:
        tell: Callable[[Any], None]
        outcome: object
        try:
            tell, outcome = done.set_result, work(*args, **kwargs)
        except BaseException as error:
            tell, outcome = done.set_exception, _to_be_told(error)
        # The loop may have ended since: then nobody asks any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, tell, outcome)

    threading.Thread(target=run, name=_NAME, daemon=True).start()
    return await done


def _to_be_told(error: BaseException) -> Exception:
    """What a future takes, and what ends no loop: a package may give up with SystemExit."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    told = RuntimeError(f"work in a thread ended with {error!r}")
    told.__cause__ = error
    return told
