"""Workers that are warm before a client asks: of the providers that the settings name, and of the one loaded last."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from waifu_llm.environment.thread import in_thread
from waifu_llm.errors import Closing, ModuleError

_log = logging.getLogger(__name__)


class Memory(Protocol):
    """Remembers a provider's name across restarts; both may block. Raise: ModuleError."""

    def read(self) -> str | None:
        """The name that was written last."""

    def write(self, name: str) -> None:
        """Remember it."""


class Prewarming:
    """One provider after the other, in the background: whoever loads meanwhile is not kept from the processors.

    `warm` starts one, and raises ModuleError. `last` is there where the provider loaded last is wanted too. What goes
    wrong is a line of the log.
    """

    def __init__(self, names: Sequence[str], last: Memory | None, warm: Callable[[str], Awaitable[None]]) -> None:
        self._names = names
        self._last = last
        self._warm = warm
        self._noted: str | None = None
        self._noting = False
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin, once."""
        if self._names or self._last is not None:
            self._own(self._warm_all())

    def loaded(self, provider: str) -> None:
        """A client has loaded it."""
        if self._last is not None and provider != self._noted:
            self._noted = provider
            if not self._noting:
                self._noting = True
                self._own(self._note(self._last))

    async def close(self) -> None:
        """End what goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _own(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _warm_all(self) -> None:
        names = [*self._names, await self._last_name()]
        for name in dict.fromkeys(name for name in names if name is not None):
            try:
                await self._warm(name)
            except Closing:
                return
            except ModuleError as error:
                _log.warning("%s is not prewarmed: %s", name[:64], error.message)
            except Exception:
                _log.exception("%s is not prewarmed, for an error inside the module", name[:64])

    async def _last_name(self) -> str | None:
        try:
            return None if self._last is None else await in_thread(self._last.read)
        except ModuleError as error:
            _log.warning("which provider was loaded last is not known: %s", error.message)
            return None

    async def _note(self, last: Memory) -> None:
        """One write after the other: of two in threads of their own the older one may be the last."""
        written: str | None = None
        try:
            while self._noted is not None and self._noted != written:
                written = self._noted
                await in_thread(last.write, written)
        except ModuleError as error:
            _log.warning("which provider was loaded last is not remembered: %s", error.message)
        finally:
            self._noting = False
