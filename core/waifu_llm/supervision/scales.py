"""Weighs workers and gateways, in a thread: for `get_stats`, and for the limit on their memory where there is one."""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final, Protocol, TypeAlias

from waifu_llm.environment.thread import in_thread
from waifu_llm.supervision.weight import MIB, Weights, too_heavy

_log = logging.getLogger(__name__)

_INTERVAL_S: Final = 5.0
_LIMITED_INTERVAL_S: Final = 1.0

Weigh: TypeAlias = Callable[[Collection[int]], Weights]


class OnScales(Protocol):
    """Who is weighed."""

    weight: int | None

    @property
    def pid(self) -> int | None:
        """Its pid while it has a process."""

    @property
    def is_limited(self) -> bool:
        """Whether the limit is meant for it."""

    def too_heavy(self, why: str) -> None:
        """It must be ended: `why` goes on after "because"."""


class Scales:
    """All that live are weighed every few seconds, every second where there is a limit; nothing waits for it.

    `weigh` is called in a thread; `memory_mb` is the limit in MiB, 0 for none, and `limit` the same in bytes.
    """

    def __init__(self, memory_mb: int, weigh: Weigh) -> None:
        self.limit: Final = memory_mb * MIB
        self._weigh = weigh
        self._on: set[OnScales] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._weighing: asyncio.Task[None] | None = None
        self._again = False

    def put(self, one: OnScales) -> None:
        """Weigh it now, and from now on. Safe to repeat."""
        self._on.add(one)
        if self._weighing is None:
            self._begin()
        else:
            self._again = True

    def take(self, one: OnScales) -> None:
        """It has ended. Safe to repeat."""
        self._on.discard(one)
        if not self._on:
            self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        self._stop_timer()
        self._again = False
        self._weighing = asyncio.get_running_loop().create_task(self._weigh_all())
        self._weighing.add_done_callback(self._weighed)

    async def _weigh_all(self) -> None:
        on = {one.pid: one for one in self._on if one.pid is not None}
        weights = await in_thread(self._weigh, tuple(on))
        for pid, weight in weights.by_pid.items():
            on[pid].weight = weight
        limited = {on[pid]: weight for pid, weight in weights.by_pid.items() if on[pid].is_limited}
        for one, why in too_heavy(limited, self.limit, weights.total, weights.available).items():
            one.too_heavy(why)

    def _weighed(self, task: asyncio.Task[None]) -> None:
        self._weighing = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("workers could not be weighed", exc_info=error)
        if self._again:
            self._begin()
        elif self._on:
            interval = _LIMITED_INTERVAL_S if self.limit else _INTERVAL_S
            self._timer = task.get_loop().call_later(interval, self._begin)
