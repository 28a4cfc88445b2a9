"""One request on its way and the replies to it. Knows nothing of sockets."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from waifu_client.errors import ConnectionLost, LLMError, error_of
from waifu_client.protocol import AnyReply, AnyRequest, Outcome, Reply

ANSWER_S: Final = 10.0  # the module promises an ack within 0.1 s and a list within 1 s
GRACE_S: Final = 10.0  # on top of a request's own time limit, which the module keeps

R = TypeVar("R", bound=Reply)


class Exchange:
    """The replies to one request, in the order they came. One task reads it."""

    def __init__(self, request: AnyRequest, on_leave: Callable[["Exchange"], None]) -> None:
        self.request = request
        self.over = False
        self._on_leave = on_leave
        self._replies: asyncio.Queue[AnyReply | LLMError] = asyncio.Queue()

    def deliver(self, item: AnyReply | LLMError) -> None:
        """A reply, or why there will be none; kept until it is read, however long that takes."""
        self.over = isinstance(item, Outcome | LLMError)
        self._replies.put_nowait(item)

    async def next(self, seconds: float | None = ANSWER_S) -> AnyReply:
        """The next reply. Cancelling is safe: no reply is lost.

        Raises: LLMError where the reply is an error; ConnectionLost where nothing came for `seconds`.
        """
        if self._replies.empty():
            try:
                async with asyncio.timeout(seconds):
                    item = await self._replies.get()
            except TimeoutError:
                raise ConnectionLost(
                    f"the module has not answered for {seconds:g} s; it may hang: see its log, or start it again"
                ) from None
        else:
            item = self._replies.get_nowait()
        if isinstance(item, LLMError):
            raise item
        if isinstance(item, Outcome) and item.is_error:
            raise error_of(item)
        return item

    async def end(self, kind: type[R], seconds: float | None = ANSWER_S) -> R:
        """Read on until a reply of this kind. Cancelling is safe. Raises: as `next`."""
        while not isinstance(reply := await self.next(seconds), kind):
            pass
        return reply

    def leave(self) -> None:
        """Nobody waits any more: what still comes is dropped, a generation or a load that still runs is interrupted."""
        self._on_leave(self)
        self.over = True


def patience(timeout_ms: int | None) -> float | None:
    """How many seconds a client waits for a request that the module gives `timeout_ms`; None for ever."""
    return timeout_ms / 1000 + GRACE_S if timeout_ms else None
