"""Who may generate now and who waits: a bounded number of places, served to connections in turn. Pure."""

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from enum import Enum, auto
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Answer(Enum):
    """What became of an offered item."""

    START = auto()
    WAIT = auto()
    FULL = auto()


class Admission(Generic[Item]):
    """Places for running items and a queue per connection.

    One connection takes at most half of the places while others wait; connections are served in turn, the
    items of one connection in their order.
    """

    def __init__(self, places: int, queued: int) -> None:
        self._places = places
        self._queue_limit = queued
        self._running: Counter[Hashable] = Counter()
        self._waiting: OrderedDict[Hashable, deque[Item]] = OrderedDict()
        self._used = 0
        self._queued = 0

    @property
    def running(self) -> int:
        """Places in use."""
        return self._used

    @property
    def queued(self) -> int:
        """Items that wait."""
        return self._queued

    def offer(self, connection: Hashable, item: Item) -> Answer:
        """Take a place, or wait for one. On START the caller starts the item and later calls `leave`."""
        if self._used < self._places and not self._waiting:
            self._take(connection)
            return Answer.START
        if self._queued >= self._queue_limit:
            return Answer.FULL
        self._waiting.setdefault(connection, deque()).append(item)
        self._queued += 1
        return Answer.WAIT

    def leave(self, connection: Hashable) -> Item | None:
        """Give a place back; the item that takes it, which the caller starts, or None."""
        self._used -= 1
        self._running[connection] -= 1
        if not self._running[connection]:
            del self._running[connection]
        return self._next()

    def withdraw(self, connection: Hashable, item: Item) -> bool:
        """Take a waiting item out of the queue; False where it does not wait."""
        queue = self._waiting.get(connection)
        if queue is None or item not in queue:
            return False
        queue.remove(item)
        self._queued -= 1
        if not queue:
            del self._waiting[connection]
        return True

    def _next(self) -> Item | None:
        if not self._waiting:
            return None
        half = max(1, self._places // 2)
        modest = (connection for connection in self._waiting if self._running[connection] < half)
        connection = next(modest, next(iter(self._waiting)))
        queue = self._waiting[connection]
        item = queue.popleft()
        self._queued -= 1
        if queue:
            self._waiting.move_to_end(connection)
        else:
            del self._waiting[connection]
        self._take(connection)
        return item

    def _take(self, connection: Hashable) -> None:
        self._used += 1
        self._running[connection] += 1
