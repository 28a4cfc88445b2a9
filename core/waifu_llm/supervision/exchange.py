"""The requests that a worker has in its hands: their ids, who hears their chunks, and their one end."""

import itertools
from collections.abc import Callable, Sequence

import msgspec

from waifu_llm.errors import ModuleError, WorkerFailure
from waifu_worker.wire import Chunk, Done, Failed, Progress


def _ignore_texts(texts: Sequence[str]) -> None:
    """A load and a model list have no text."""


def _ignore_progress(progress: Progress) -> None:
    """Only a load tells how far it is."""


class Exchange(msgspec.Struct, eq=False):
    """A request on the wire. `ended` is called exactly once, with its good or bad end."""

    ended: Callable[[Done | ModuleError], None]
    chunks: Callable[[Sequence[str]], None] = _ignore_texts
    progress: Callable[[Progress], None] = _ignore_progress
    is_load: bool = False
    id: int = 0
    cancelled: bool = False


class Exchanges:
    """All requests of one worker, by id, which is unique for the core's life.

    `chunk`, `progress` and `end` tell whether it has that request; what is for another one is dropped.
    """

    _ids = itertools.count(1)

    def __init__(self) -> None:
        self.delivered = False
        self._pending: dict[int, Exchange] = {}

    def __contains__(self, exchange: Exchange) -> bool:
        return exchange.id in self._pending

    @property
    def loading(self) -> bool:
        """Whether a load is among them."""
        return any(exchange.is_load for exchange in self._pending.values())

    def number(self, exchange: Exchange) -> int:
        """Give it its id, under which it can be sent."""
        exchange.id = next(self._ids)
        return exchange.id

    def sent(self, exchange: Exchange) -> None:
        """The worker has it in its hands from now on."""
        self._pending[exchange.id] = exchange

    def chunk(self, message: Chunk) -> bool:
        """Pieces of text; none of a cancelled request is heard any more."""
        exchange = self._pending.get(message.id)
        if exchange is not None and not exchange.cancelled:
            self.delivered = True
            exchange.chunks(message.texts)
        return exchange is not None

    def progress(self, message: Progress) -> bool:
        """How far a load is; of a cancelled one nobody hears any more."""
        exchange = self._pending.get(message.id)
        if exchange is not None and not exchange.cancelled:
            exchange.progress(message)
        return exchange is not None

    def end(self, message: Done | Failed) -> bool:
        """The worker is done with one, well or not."""
        exchange = self._pending.pop(message.id, None)
        if exchange is None:
            return False
        if isinstance(message, Failed):
            exchange.ended(WorkerFailure(message))
        else:
            self.delivered = self.delivered or not exchange.is_load
            exchange.ended(message)
        return True

    def fail_all(self, error: ModuleError) -> None:
        """The worker is gone, or about to go: each ends with `error`."""
        pending, self._pending = self._pending, {}
        for exchange in pending.values():
            exchange.ended(error)
