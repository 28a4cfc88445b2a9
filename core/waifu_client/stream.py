"""A streamed answer: read it with `async for`; leaving the loop interrupts it at the provider."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

from waifu_client.connection import Connection
from waifu_client.exchange import Exchange, patience
from waifu_client.protocol import Generate, GenerateStreamChunk, GenerateStreamDone, RequestId, Usage
from waifu_client.results import known


class Stream:
    """The pieces of one answer, none of them empty. It can be read once; the request leaves when the reading begins.

    Leaving the loop by break, return, an exception or a cancellation interrupts the request; so do `aclose()` and
    the end of an `async with`. `usage`, `finish_reason` and `ignored` are known once the loop has ended by itself.
    A reader that takes its time holds nobody up: what has come meanwhile is kept for it.
    """

    usage: Usage | None = None
    finish_reason: str | None = None
    ignored: tuple[str, ...] = ()

    def __init__(
        self, connection: Connection, request: Generate, begin: Callable[[Generate], Awaitable[Exchange]]
    ) -> None:
        self._connection = connection
        self._request = request
        self._begin = begin
        self._exchange: Exchange | None = None
        self._taken = False
        self._ended = False

    @property
    def request_id(self) -> RequestId:
        """What `interrupt(target=...)` takes."""
        return self._request.unique_request_id

    def __aiter__(self) -> AsyncIterator[str]:
        if self._taken:
            raise RuntimeError("a stream can be read once: ask for another one")
        self._taken = True
        return _Reading(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Interrupt what still runs. Does not wait for anything; safe to repeat."""
        self.leave()

    def leave(self) -> None:
        """`aclose` for callers that cannot await. To be called in the event loop's thread."""
        self._taken = self._ended = True
        if self._exchange is not None:
            self._exchange.leave()

    async def next(self) -> str:
        """The next piece. Raises: StopAsyncIteration at the end, LLMError. Cancelling interrupts the request."""
        if self._ended:
            raise StopAsyncIteration
        try:
            if self._exchange is None:
                self._exchange = await self._begin(self._request)
            return await self._piece(self._exchange)
        except BaseException:
            self.leave()
            raise

    async def _piece(self, exchange: Exchange) -> str:
        seconds = patience(self._request.params.timeout_ms)
        while True:
            match await exchange.next(seconds):
                case GenerateStreamChunk(chunk=chunk):
                    return chunk
                case GenerateStreamDone() as done:
                    self.usage, self.finish_reason = known(done.usage), known(done.finish_reason)
                    self.ignored = tuple(known(done.ignored) or ())
                    raise StopAsyncIteration
                case _:
                    pass  # a reply that is none of a stream's: a newer module's

    def abandoned(self) -> None:
        """Nobody reads any more; called in whatever thread let go of the reading last."""
        if self._ended:
            return
        loop = self._connection.loop
        with contextlib.suppress(RuntimeError):  # no loop in this thread, or ours is closed and the socket with it
            if asyncio.get_running_loop() is loop:
                self.leave()  # at once: what the caller asks for next goes out after the interrupt
                return
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self.leave)


class _Reading:
    """What an `async for` holds while it reads, and nothing else does: it goes when the loop is left."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __aiter__(self) -> "_Reading":
        return self

    async def __anext__(self) -> str:
        return await self._stream.next()

    def __del__(self) -> None:
        self._stream.abandoned()
