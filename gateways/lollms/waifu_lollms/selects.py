"""In which order one program's events take effect: what it sends right after a select means what that select chose."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeAlias

# What an event waits for, where the same program sent it earlier. Selects of bindings and of models don't wait for
# each other's kind: the last of several wins, and the others are told so at once.
_PERSONALITIES: Final = frozenset({"add_personality", "activate_personality"})
_AFTER: Final[Mapping[str, frozenset[str]]] = {
    "list_available_models": frozenset({"select_binding"}),
    "select_model": frozenset({"select_binding"}),
    "add_personality": _PERSONALITIES,
    "activate_personality": _PERSONALITIES,
    "list_active_personalities": _PERSONALITIES,
    "generate_text": _PERSONALITIES | {"select_binding", "select_model"},
}
_SELECTS: Final = _AFTER["generate_text"]

Earlier: TypeAlias = tuple[asyncio.Future[None], ...]


class Selects:
    """The selects of one program that are not over yet."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Future[None], str] = {}

    def earlier(self, event: str) -> Earlier:
        """What this event, which comes now, has to wait for."""
        return tuple(over for over, select in self._running.items() if select in _AFTER.get(event, ()))

    @contextmanager
    def turn(self, event: str) -> Iterator[Earlier]:
        """This event is handled until the end of the block; given is what it has to wait for."""
        earlier = self.earlier(event)
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if event in _SELECTS:
            self._running[over] = event
        try:
            yield earlier
        finally:
            self._running.pop(over, None)
            over.set_result(None)


async def end_of(earlier: Earlier) -> None:
    """Wait for them, however they end. Cancelling is safe."""
    if earlier:
        await asyncio.wait(earlier)
