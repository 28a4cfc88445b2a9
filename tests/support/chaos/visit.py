"""One client's connection in a chaos run, with its book."""

import asyncio
import itertools
import time
from collections.abc import Mapping
from random import Random
from typing import Any, Final

from support.chaos.ledger import PATIENCE_S, Book, Ledger, Plan, Request
from support.chaos.plans import load_fields
from support.raw_websocket import RawWebSocket

_LOAD_S: Final = 120.0


class Overdue(Exception):
    """What should have come did not come in its time."""


class Visit:
    """A connected client. Every request that it makes is judged by its book."""

    def __init__(self, ledger: Ledger, who: str, rng: Random, upstream: str) -> None:
        self.rng = rng
        self.who = who
        self.told = ""
        self.ledger = ledger
        self.book: Book = ledger.book(who)
        self._upstream = upstream
        self._ids = itertools.count()
        self._news = asyncio.Event()
        self.socket: RawWebSocket

    async def open(self, url: str, headers: Mapping[str, str] = {}, receive_buffer: int | None = None) -> "Visit":
        """Connect. Raises: Refused, OSError."""
        self.socket = await RawWebSocket.connect(url, self._hear, headers, receive_buffer)
        self.socket.closed.add_done_callback(lambda _: self._news.set())
        return self

    def _hear(self, message: dict[str, Any]) -> None:
        self.book.hear(message)
        self._news.set()

    def ask(self, kind: str, plan: Plan | None = None, within_s: float = 30.0, **fields: Any) -> Request:
        """Send a request."""
        request_id = f"{self.who}/{next(self._ids)}"
        request = self.book.ask(request_id, kind, plan, within_s)
        self.socket.say({"type": kind, "unique_request_id": request_id, **fields})
        return request

    def generate(self, plan: Plan, *, stream: bool = True) -> Request:
        """Ask for a generation."""
        params = {"model_id": plan.model_id, "timeout_ms": plan.timeout_ms, "max_output_length": 100_000}
        messages = [{"role": "user", "content": plan.text}]
        return self.ask("generate", plan, messages=messages, params=params, stream=stream, provider=plan.provider)

    async def load(self, provider: str) -> bool:
        """Load it; whether that succeeded. `told` is what was said where it did not."""
        fields: dict[str, Any] = load_fields(provider, self._upstream, self.rng)
        request = self.ask("load", within_s=_LOAD_S, provider=provider, **fields)
        await self.ended(request)
        self.told = request.told
        return request.outcome == "SUCCESS"

    async def ended(self, *requests: Request) -> None:
        """Wait for their ends, or that of the connection. Raises: Overdue."""
        left = max(request.deadline for request in requests) - time.monotonic()
        try:
            async with asyncio.timeout(left):
                for request in requests:
                    while not request.terminals and not self.socket.closed.done():
                        self._news.clear()
                        await self._news.wait()
        except TimeoutError:
            open_ones = [request.kind for request in requests if not request.terminals]
            raise Overdue(f"{self.who} waits for {len(open_ones)}: {open_ones[:5]}") from None

    async def heard(self, request: Request, pieces: int) -> None:
        """Wait until that many pieces have come, or its end."""
        while not self.socket.closed.done() and not request.terminals and len(request.pieces) < pieces:
            self._news.clear()
            async with asyncio.timeout(PATIENCE_S + 30.0):
                await self._news.wait()

    async def errors(self, count: int) -> None:
        """Wait until the server has complained that often, or left."""
        while not self.socket.closed.done() and self.book.errors < count:
            self._news.clear()
            async with asyncio.timeout(PATIENCE_S + 30.0):
                await self._news.wait()

    async def leave(self) -> None:
        """Go as one should; what has no end by then is lost where the server has gone before."""
        self.book.close(by_us=not self.socket.closed.done())
        if not self.socket.closed.done():
            self.socket.leave()
        await self.socket.closed

    def vanish(self) -> None:
        """Go without a word."""
        self.book.close(by_us=True)
        self.socket.abort()
