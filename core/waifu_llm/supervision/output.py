"""How a child's output is told as soon as it is read: asyncio puts off each piece of it by a turn of the loop."""

import asyncio
from collections.abc import Callable


class _Output(asyncio.Protocol):
    """Stands before asyncio's own protocol: a piece is told, all else is for that one, by which asyncio knows when all
    of a process has ended.
    """

    def __init__(self, tell: Callable[[bytes], None], before: asyncio.Protocol) -> None:
        self._tell = tell
        self._before = before

    def data_received(self, data: bytes) -> None:
        self._tell(data)

    def eof_received(self) -> bool | None:
        return self._before.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._before.connection_lost(error)


def tell_at_once(pipe: asyncio.ReadTransport, tell: Callable[[bytes], None]) -> None:
    """Have each piece that is read of a child's pipe from now on told at once.

    For `connection_made`: what was read before it is put off already, so it is told before.
    """
    before = pipe.get_protocol()
    assert isinstance(before, asyncio.Protocol)
    pipe.set_protocol(_Output(tell, before))
