"""What waits to be sent to one client: bounded, where the library's own queue grows for ever."""

import asyncio
from typing import Any, Final

from waifu_lollms.packets import MOST_PACKETS

# What a packet costs beside its text.
_PACKET_BYTES: Final = 256


class Outgoing(asyncio.Queue[Any]):
    """engine.io's queue of packets for one client, which knows how much waits in it and when some of it last left."""

    def __init__(self, room_bytes: int) -> None:
        super().__init__()
        self._room_bytes = room_bytes
        self._room = asyncio.Event()
        self._room.set()
        self._released = False
        self._together = 0
        self._loop = asyncio.get_running_loop()
        self.waiting_bytes = 0
        self.moved = self._loop.time()

    async def has_room(self, stall_s: float) -> bool:
        """Wait until little waits; False where nothing left it for `stall_s`. Cancelling it is safe."""
        while not self._room.is_set():
            try:
                async with asyncio.timeout(stall_s):
                    await self._room.wait()
            except TimeoutError:
                if self._loop.time() - self.moved >= stall_s:
                    return False
        return True

    def release(self) -> None:
        """Nobody will read it: whoever waits for room goes on."""
        self._released = True
        self._room.set()

    async def get(self) -> Any:
        """The next packet, the first of an answer."""
        self._together = 0
        return await super().get()

    def get_nowait(self) -> Any:
        """One more for the same answer. Raises: asyncio.QueueEmpty, also where the answer is full."""
        # Python's client takes an answer with more packets for a broken one, and hangs or leaves without a word.
        if self._together == MOST_PACKETS:
            self._together = 0
            raise asyncio.QueueEmpty
        item = super().get_nowait()
        self._together += 1
        return item

    def _put(self, item: Any) -> None:
        super()._put(item)
        self.waiting_bytes += _weight(item)
        if self.waiting_bytes > self._room_bytes and not self._released:
            self._room.clear()

    def _get(self) -> Any:
        item = super()._get()
        self.waiting_bytes -= _weight(item)
        self.moved = self._loop.time()
        if self.waiting_bytes <= self._room_bytes:
            self._room.set()
        return item


def _weight(packet: Any) -> int:
    """None, the mark of the end, weighs as any packet does."""
    data = getattr(packet, "data", None)
    return _PACKET_BYTES + (len(data) if isinstance(data, str | bytes) else 0)
