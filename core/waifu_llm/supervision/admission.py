"""Who may generate now and who waits: a bounded number of places, served to connections in turn. Pure."""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from enum import Enum, auto
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class Answer(Enum):
    """What became of an offered item."""

    START = auto()
    WAIT = auto()
    FULL = auto()


class Admission(Generic[Item]):
    """Places for running items, a queue per connection, and the memory of what nobody has taken over yet.

    One connection takes at most half of the places while others wait; connections are served in turn, the
    items of one connection in their order. A full queue is shared: who has less than the others pushes them back.
    `size` is an item's memory in bytes, counted until it is `handed_over`; one connection has at most half of `memory`.
    """

    def __init__(self, places: int, queued: int, memory: int) -> None:
        self._places = places
        self._queue_limit = queued
        self._memory_limit = memory
        # No `Counter`: what it does for a key that is missing, or goes, it does in Python.
        self._running: dict[Hashable, int] = {}
        self._waiting: OrderedDict[Hashable, deque[Item]] = OrderedDict()
        self._sizes: dict[Item, int] = {}
        self._memory: dict[Hashable, int] = {}
        self._used = 0
        self._queued = 0
        self._total = 0

    @property
    def running(self) -> int:
        """Places in use."""
        return self._used

    @property
    def queued(self) -> int:
        """Items that wait."""
        return self._queued

    @property
    def memory(self) -> int:
        """Bytes of the items that were not handed over yet."""
        return self._total

    def offer(self, connection: Hashable, item: Item, size: int) -> Answer:
        """Take a place, or wait for one. On START the caller starts the item and later calls `leave`.

        On FULL nothing has changed; `push_back` may make room.
        """
        if self._is_heavy(connection, size):
            return Answer.FULL
        if self._used < self._places and not self._waiting:
            self._weigh(connection, item, size)
            self._take(connection)
            return Answer.START
        if self._queued >= self._queue_limit:
            return Answer.FULL
        self._weigh(connection, item, size)
        self._waiting.setdefault(connection, deque()).append(item)
        self._queued += 1
        return Answer.WAIT

    def push_back(self, connection: Hashable, size: int) -> Item | None:
        """Make room for an item of `connection` that found it full, where others have more of what is short.

        The newest waiting item of who has most of it, which waits no more; None where the connection has its share.
        """
        have: Callable[[Hashable], int]
        if self._total + size > self._memory_limit:
            have, wanted, sharers, limit = self._holds, size, len(self._memory), self._memory_limit
        else:
            have, wanted, sharers, limit = self._waits, 1, len(self._waiting), self._queue_limit
        own = have(connection) + wanted
        # Who has an equal share already is refused without a look at everybody.
        greedy = max(self._waiting, key=have, default=None) if own * sharers <= limit else None
        if greedy is None or have(greedy) <= own:
            return None
        item = self._waiting[greedy].pop()
        self._gone(greedy, item)
        return item

    def _holds(self, connection: Hashable) -> int:
        return self._memory.get(connection, 0)

    def _waits(self, connection: Hashable) -> int:
        return len(self._waiting.get(connection, ()))

    def handed_over(self, connection: Hashable, item: Item) -> None:
        """Somebody else keeps the item's memory from now on. Safe to repeat."""
        size = self._sizes.pop(item, None)
        if size is None:
            return
        self._total -= size
        left = self._holds(connection) - size
        if left:
            self._memory[connection] = left
        else:
            self._memory.pop(connection, None)

    def leave(self, connection: Hashable, item: Item) -> Item | None:
        """Give an item's place back; the item that takes it, which the caller starts, or None."""
        self.handed_over(connection, item)
        self._used -= 1
        self._running[connection] -= 1
        if not self._running[connection]:
            del self._running[connection]
        return self._next() if self._waiting else None

    def withdraw(self, connection: Hashable, item: Item) -> bool:
        """Take a waiting item out of the queue; False where it does not wait."""
        queue = self._waiting.get(connection)
        if queue is None or item not in queue:
            return False
        queue.remove(item)
        self._gone(connection, item)
        return True

    def _gone(self, connection: Hashable, item: Item) -> None:
        """It waits no more, and will not run."""
        self._queued -= 1
        self.handed_over(connection, item)
        if not self._waiting[connection]:
            del self._waiting[connection]

    def _is_heavy(self, connection: Hashable, size: int) -> bool:
        """Whether there is no memory for it. What comes alone is always taken: a message has a limit of its own."""
        own = self._memory.get(connection, 0)
        most = self._memory_limit // 2
        return (own > 0 and own + size > most) or (self._total > 0 and self._total + size > self._memory_limit)

    def _weigh(self, connection: Hashable, item: Item, size: int) -> None:
        self._sizes[item] = size
        self._memory[connection] = self._memory.get(connection, 0) + size
        self._total += size

    def _next(self) -> Item:
        half = max(1, self._places // 2)
        modest = (connection for connection in self._waiting if self._running.get(connection, 0) < half)
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
        self._running[connection] = self._running.get(connection, 0) + 1
