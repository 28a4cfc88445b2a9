"""Clients that ask, time what comes and check every message: exact text, one acknowledgement, one end, no more."""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import msgspec
from benchmarks.raw_client import RawClient

PROMPT: Final = "hi"
PATIENCE_S: Final = 120.0
_ids: Final = itertools.count()
_now: Final = time.perf_counter


class Heard(msgspec.Struct):
    """What is read of a message of the protocol."""

    type: str
    unique_request_id: str = ""
    chunk: str = ""
    response: str = ""
    is_error: bool = False
    error: str | None = None
    message: str | None = None


_read: Final = msgspec.json.Decoder(Heard).decode


class Generation:
    """One `generate` and what came of it; times are of `time.perf_counter`.

    `stamps`: where they are kept, each chunk's text with the moment (CLOCK_MONOTONIC) at which it came.
    """

    __slots__ = (
        "acked", "acks", "asked", "begun", "disorder", "ended", "ends", "error", "finished", "id", "pieces", "stamps",
    )  # fmt: skip

    def __init__(self, request_id: str, *, stamps: bool) -> None:
        self.id = request_id
        self.pieces: list[str] = []
        self.stamps: list[tuple[float, str]] | None = [] if stamps else None
        self.acks = self.ends = self.disorder = 0
        self.asked = self.acked = self.begun = self.ended = 0.0
        self.error: str | None = None
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def text(self) -> str:
        """All of it, however it was cut."""
        return "".join(self.pieces)

    def faults(self, text: str | None) -> Counter[str]:
        """What is wrong with it: an exact text is wanted, or with None none in particular."""
        found = Counter(
            text=int(text is not None and self.text != text),
            acknowledgement=int(self.acks != 1),
            terminal=int(self.ends != 1),
            order=int(self.disorder > 0),
            error=int(self.error is not None),
        )
        return +found

    def hear(self, message: Heard) -> bool:
        """Take one message; whether it was one of a generation's."""
        match message.type:
            case "generate_stream_chunk":
                self._chunk(message.chunk)
            case "generate_ack":
                self.acks += 1
                self.acked = _now()
            case "generate_done" | "generate_stream_done":
                self._end(message)
            case _:
                return False
        return True

    def _chunk(self, text: str) -> None:
        if not self.pieces:
            self.begun = _now()
            self.disorder += not self.acks
        self.disorder += self.ends > 0 or not text
        self.pieces.append(text)
        if self.stamps is not None:
            self.stamps.append((time.monotonic(), text))

    def _end(self, message: Heard) -> None:
        self.ends += 1
        self.ended = _now()
        if message.response:
            self.pieces.append(message.response)
        if message.is_error:
            self.error = f"{message.error}: {message.message}"
        if not self.finished.done():
            self.finished.set_result(None)


class Client:
    """One connection, any number of requests at once. `stray`: messages that nobody asked for."""

    def __init__(self) -> None:
        self.stray = 0
        self.frames = 0
        self._generations: dict[str, Generation] = {}
        self._answers: dict[tuple[str, str], asyncio.Future[Heard]] = {}
        self._raw: RawClient | None = None

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect. Raises: OSError."""
        client = cls()
        client._raw = await RawClient.open(url, client._hear)
        client._raw.closed.add_done_callback(lambda _: client._lost())
        return client

    @property
    def bytes_read(self) -> int:
        """Everything that came over the socket."""
        return self._raw.bytes_read if self._raw is not None else 0

    def close(self) -> None:
        """Cut the connection."""
        if self._raw is not None:
            self._raw.close()

    def generate(self, model: str, *, stream: bool, stamps: bool = False, prompt: str = PROMPT) -> Generation:
        """Ask; what comes is gathered in the generation, whose `finished` is set by its end."""
        generation = Generation(_new_id(), stamps=stamps)
        self._generations[generation.id] = generation
        message = {
            "type": "generate",
            "unique_request_id": generation.id,
            "messages": [{"role": "user", "content": prompt}],
            "params": {
                "model_id": model, "character_name": "AI", "temperature": 1.0, "max_output_length": 200,
                "stop_tokens": None, "timeout_ms": int(PATIENCE_S * 1e3),
            },
            "stream": stream,
        }  # fmt: skip
        data = msgspec.json.encode(message)
        generation.asked = _now()
        self._send(data)
        return generation

    async def finished(self, generations: Sequence[Generation]) -> Counter[str]:
        """Wait until all have ended and nothing follows; what is wrong apart from their texts is counted there.

        Their ids are forgotten: what comes for them later is stray.
        """
        lost = 0
        try:
            async with asyncio.timeout(PATIENCE_S):
                for generation in generations:
                    await generation.finished
                await self.ask("interrupt", "interrupt_ack")
        except ConnectionError:
            lost = 1
        for generation in generations:
            self._generations.pop(generation.id, None)
        stray, self.stray = self.stray, 0
        return +Counter(stray=stray, connection=lost)

    async def load(self, provider: str, api_key: str) -> float:
        """Load a provider; seconds from asking to the end. Raises: ConnectionError where it fails."""
        begun = _now()
        done = await self.ask("load", "load_done", provider=provider, api_key=api_key)
        if done.is_error:
            raise ConnectionError(f"{provider} could not be loaded: {done.error}: {done.message}")
        return _now() - begun

    async def ask(self, kind: str, answer: str, **fields: Any) -> Heard:
        """Send a message and wait for the answer of that type. Raises: ConnectionError."""
        request_id = _new_id()
        future: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()
        self._answers[answer, request_id] = future
        self._answers[f"{kind}_ack", request_id] = future if answer == f"{kind}_ack" else _ignored()
        self._send(msgspec.json.encode({"type": kind, "unique_request_id": request_id, **fields}))
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await future
        finally:
            for name in {answer, f"{kind}_ack"}:
                self._answers.pop((name, request_id), None)

    def _send(self, data: bytes) -> None:
        if self._raw is None or self._raw.closed.done():
            raise ConnectionError("the connection was lost")
        self._raw.send(data)

    def _hear(self, data: bytes) -> None:
        self.frames += 1
        message = _read(data)
        generation = self._generations.get(message.unique_request_id)
        if generation is not None:
            self.stray += not generation.hear(message)
            return
        answer = self._answers.get((message.type, message.unique_request_id))
        if answer is None or answer.done():
            self.stray += 1
        else:
            answer.set_result(message)

    def _lost(self) -> None:
        """Nobody waits for a connection that is gone: what had not ended stays without an end, which is counted."""
        for generation in self._generations.values():
            if not generation.finished.done():
                generation.finished.set_result(None)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the connection was lost"))
                answer.exception()


def _new_id() -> str:
    return f"bench-{next(_ids)}"


def _ignored() -> "asyncio.Future[Heard]":
    return asyncio.get_running_loop().create_future()


@asynccontextmanager
async def clients(url: str, count: int) -> AsyncIterator[list[Client]]:
    """So many connections, opened some at a time and cut at the end."""
    opened: list[Client] = []
    try:
        while len(opened) < count:
            opened += await asyncio.gather(*(Client.open(url) for _ in range(min(50, count - len(opened)))))
        yield opened
    finally:
        for client in opened:
            client.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*(client._raw.closed for client in opened if client._raw is not None))
