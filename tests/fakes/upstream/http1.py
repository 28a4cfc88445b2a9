"""HTTP/1.1 by hand: requests are read whole, responses leave byte for byte as the scenario wants them.

No web framework, for those buffer, tidy up and hide when the peer goes away, which is what the tests are about.
"""

import asyncio
import json
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

_MOST_BODY: Final = 64 * 1024 * 1024
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class Exchange:
    """One request, and how it ended: "" while it runs, "complete", "cut" (by us), "eof" or "reset" (by the peer)."""

    number: int
    connection: int
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    pieces: int = 0
    end: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def path(self) -> str:
        """The target without a proxy's host and without the query."""
        return urlsplit(self.target).path

    def json(self) -> object:
        """The body, decoded. Raises: ValueError."""
        return json.loads(self.body)

    def finish(self, end: str) -> None:
        """Settle how it ended; the first word counts."""
        if not self.end:
            self.end = end
            self.ended.set()

    def record(self) -> dict[str, object]:
        """What `/__log` shows of it."""
        try:
            body = self.json()
        except ValueError:
            body = self.body.decode("utf-8", "replace")
        return {
            "number": self.number,
            "connection": self.connection,
            "method": self.method,
            "target": self.target,
            "headers": self.headers,
            "body": body,
            "pieces": self.pieces,
            "end": self.end,
        }


class Output:
    """Writes one response. Every method raises ConnectionError once the peer is gone."""

    def __init__(self, connection: "Connection", exchange: Exchange) -> None:
        self._connection = connection
        self._exchange = exchange
        self.keep = True

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        """The status line and the headers; the body follows in chunks."""
        await self._send(_head(status, {**headers, "Transfer-Encoding": "chunked"}))

    async def chunk(self, data: bytes) -> None:
        """One HTTP chunk, handed to the network before this returns, so that chunks do not melt together."""
        await self._send(b"%x\r\n%b\r\n" % (len(data), data))
        self._exchange.pieces += 1

    async def finish(self) -> None:
        """The end of a chunked body."""
        await self._send(b"0\r\n\r\n")

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """A response with its length."""
        await self._send(_head(status, {**headers, "Content-Length": str(len(body))}) + body)

    async def stall(self) -> None:
        """Nothing more, until the peer has had enough."""
        await self._connection.gone.wait()
        raise ConnectionResetError

    def close(self) -> None:
        """End the connection in the middle of things, politely (FIN)."""
        self._exchange.finish("cut")
        self._connection.transport.close()

    def abort(self) -> None:
        """End the connection in the middle of things (RST)."""
        self._exchange.finish("cut")
        sock = self._connection.transport.get_extra_info("socket")
        shape = "hh" if sys.platform == "win32" else "ii"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(shape, 1, 0))
        self._connection.transport.abort()

    async def _send(self, data: bytes) -> None:
        if self._connection.gone.is_set():
            raise ConnectionResetError
        self._connection.transport.write(data)
        await self._connection.writable.wait()
        await asyncio.sleep(0)


Handler = Callable[[Exchange, Output], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One client's connection: its requests one after the other, and the moment it goes away."""

    transport: asyncio.Transport

    def __init__(self, number: int, admit: Callable[["Exchange"], None], handler: Handler) -> None:
        self.number = number
        self.gone = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self._admit = admit
        self._handler = handler
        self._buffer = b""
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def eof_received(self) -> None:
        self._leave("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave("eof" if exc is None else "reset")

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def _leave(self, how: str) -> None:
        self.gone.set()
        self.writable.set()
        if self._exchange is not None:
            self._exchange.finish(how)
        if self._task is not None:
            self._task.cancel()

    def _next(self) -> None:
        """Begin with the next request if it is there and no other runs."""
        if self._task is not None:
            return
        try:
            request, self._buffer = _read_request(self._buffer)
        except ValueError:
            self.transport.write(_head(400, {"Content-Length": "0", "Connection": "close"}))
            self.transport.close()
            return
        if request is None:
            return
        method, target, headers, body = request
        exchange = self._exchange = Exchange(0, self.number, method, target, headers, body)
        self._admit(exchange)
        self._task = asyncio.get_running_loop().create_task(self._serve(exchange))

    async def _serve(self, exchange: Exchange) -> None:
        output = Output(self, exchange)
        try:
            await self._handler(exchange, output)
        except (ConnectionError, asyncio.CancelledError):
            self.transport.abort()
            return
        finally:
            self._task = None
        exchange.finish("complete")
        if not output.keep:
            self.transport.close()
        self._next()


def _read_request(buffer: bytes) -> tuple[tuple[str, str, dict[str, str], bytes] | None, bytes]:
    """The first request in the buffer, None while it is not whole, and what follows it. Raises: ValueError."""
    head, found, rest = buffer.partition(b"\r\n\r\n")
    if not found:
        return None, buffer
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    if version != "HTTP/1.1":
        raise ValueError(version)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= _MOST_BODY:
        raise ValueError(length)
    if len(rest) < length:
        return None, buffer
    return (method, target, headers, rest[:length]), rest[length:]


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
