"""An event loop whose time is the test's: where nothing is ready it does not wait, its clock jumps to the next timer.

So the core runs as it is, with its own timeouts of minutes, in no time, and in an order that does not depend on the
machine. Real files and sockets work too, and the clock stands still while a thread has work.

`pytestmark = pytest.mark.virtual_time` gives it to the `async def` tests of a file, the same mark to one of them, and
`run_virtually(main())` is for a test without a loop.
"""

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from typing import Any, Final, TypeVar, TypeVarTuple

from support.waiting import WAIT_S

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_THREADS: Final = "waifu-llm"
_LOOK_AGAIN_S: Final = 0.001


class NothingLeft(AssertionError):
    """Everything waits, and nothing is to come that could end it."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 1000 s and moves only where everything waits."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._in_executor = 0
        self._until_quiet = False
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        """It is later now. Timers that are due meanwhile are called in the next turn, in their order."""
        self._now += seconds

    def settle(self) -> None:
        """Run, without letting time pass, until everything waits. For tests that are not in the loop themselves."""
        self._until_quiet = True
        self.run_forever()
        self._until_quiet = False

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass, as `settle` does none."""
        self.call_later(seconds, self.stop)
        self.run_forever()

    def waits(self) -> bool:
        """Everything does; whether the loop stops for it."""
        if self._until_quiet:
            self.stop()
        return self._until_quiet

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        self._in_executor += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._left_executor)
        return future

    def _left_executor(self, _: object) -> None:
        self._in_executor -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Without the limit that a runner sets since Python 3.12: it comes before the threads are asked to end."""
        await super().shutdown_default_executor()

    @property
    def is_working(self) -> bool:
        """Whether a thread has something to tell: time stands still for it."""
        return self._in_executor > 0 or any(thread.name.startswith(_THREADS) for thread in threading.enumerate())


class _Jumping(selectors.BaseSelector):
    """The real selector, asked without waiting."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        while not ready and timeout != 0 and self._loop.is_working:
            ready = self._real.select(_LOOK_AGAIN_S)
        if ready or timeout == 0 or self._loop.waits():
            return ready
        if timeout is not None:
            self._loop.jump(timeout)
            return []
        # Only from outside this loop can anything come now: from a real process or socket.
        ready = self._real.select(WAIT_S)
        if not ready:
            raise NothingLeft("everything waits for ever")
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
