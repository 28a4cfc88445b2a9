"""A very fast OpenAI-style API on 127.0.0.1: what every subject of the benchmarks reads from.

A model's name says what is answered (`answers.Wanted`). As a program it prints its port and ends with its input.
"""

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from typing import Final

import msgspec
from benchmarks import answers
from benchmarks.answers import Wanted
from benchmarks.ending import end_of_input
from benchmarks.heap import keep_what_reads_take

_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class _Request(msgspec.Struct):
    model: str
    stream: bool = False


class Upstream(asyncio.Protocol):
    """One connection: keep-alive, one request at a time, bodies with a Content-Length."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._pieces: Iterator[bytes] = iter(())
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """It left; what it asked for goes with it."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """It does not read as fast as this writes."""
        self._paused = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused = False
        self._pump()

    def data_received(self, data: bytes) -> None:
        """A part of a request, or all of it."""
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        needed = int(length[1]) if length else 0
        if blank and len(body) >= needed:
            self._received = b""
            self._answer(head, body[:needed])

    def _answer(self, head: bytes, body: bytes) -> None:
        method, path, _ = head.split(b" ", 2)
        if method == b"GET" and path.endswith(b"/models"):
            self._write(answers.MODELS)
        elif not path.endswith(b"/chat/completions"):
            self._write(answers.NOT_FOUND)
        else:
            asked = msgspec.json.decode(body, type=_Request)
            wanted = Wanted.of(asked.model)
            if wanted.delay > 0:
                self._timer = self._loop.call_later(wanted.delay / 1e3, self._generate, wanted, asked.stream)
            else:
                self._generate(wanted, asked.stream)

    def _generate(self, wanted: Wanted, stream: bool) -> None:
        if not stream:
            self._write(answers.whole(wanted.n, wanted.len))
        elif wanted.rate > 0:
            self._write(answers.STREAM_BEGIN)
            self._tick(wanted, 0, self._loop.time())
        else:
            self._pieces = iter(answers.stream(wanted.n, wanted.len))
            self._pump()

    def _pump(self) -> None:
        while not self._paused and self._transport is not None and (piece := next(self._pieces, None)) is not None:
            self._write(piece)

    def _tick(self, wanted: Wanted, number: int, due: float) -> None:
        if wanted.ts:
            now = time.monotonic()
            self._write(answers.stamped(int(now * 1e6), max(0, int((now - due) * 1e6))))
        else:
            self._write(answers.chunk(number, wanted.len))
        if number + 1 >= wanted.n:
            self._write(answers.STREAM_END)
            return
        due += 1 / wanted.rate
        self._timer = self._loop.call_at(due, self._tick, wanted, number + 1, due)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def serve() -> None:
    """Listen until the end of input."""
    keep_what_reads_take()
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await end_of_input()


if __name__ == "__main__":
    asyncio.run(serve())
