"""A client on a bare socket, frame by frame: for what no library would send, or not in these pieces."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, Final

from support.waiting import bounded

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
FIN: Final = 0x80
KEY: Final = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE: Final = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", KEY)


def request(*headers: str, target: str = "/") -> bytes:
    """A handshake with these headers beside those of every one."""
    return "\r\n".join([f"GET {target} HTTP/1.1", *UPGRADE, *headers, "", ""]).encode("latin-1")


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """One masked frame (with a mask of zeros, which changes nothing)."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 2**16:
        length = bytes([0x80 | 126]) + struct.pack(">H", size)
    else:
        length = bytes([0x80 | 127]) + struct.pack(">Q", size)
    return bytes([(FIN if fin else 0) | opcode]) + length + bytes(4) + payload


class RawSocket:
    """A connected socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *pieces: bytes) -> None:
        self.writer.write(b"".join(pieces))

    def say(self, kind: str, unique_request_id: str | int = "x", **fields: Any) -> None:
        self.send(frame(TEXT, json.dumps({"type": kind, "unique_request_id": unique_request_id, **fields}).encode()))

    async def status(self) -> int:
        """The HTTP status of the answer, whose headers are read over; 0 where there is none."""
        async with bounded():
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                head = await self.reader.readuntil(b"\r\n\r\n")
                return int(head.split()[1])
        return 0

    async def hear(self) -> tuple[int, bytes]:
        """The next frame: its opcode and what is in it. Raises: IncompleteReadError at the end of the socket."""
        async with bounded():
            first, size = await self.reader.readexactly(2)
            if size >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            return first & 0x0F, await self.reader.readexactly(size)

    async def hear_reply(self) -> dict[str, Any]:
        """The next message."""
        opcode, payload = await self.hear()
        assert opcode == TEXT, (opcode, payload)
        reply: dict[str, Any] = json.loads(payload)
        return reply

    async def closed(self) -> int | None:
        """Read over what comes to the end: the code that the server closed with, None without one."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                opcode, payload = await self.hear()
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2], "big")
        return None

    async def over(self) -> bytes:
        """All that still comes, to the end of the socket."""
        async with bounded():
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
        return b""

    def reset(self) -> None:
        """Be gone at once."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def raw_socket(host: str, port: int) -> AsyncIterator[RawSocket]:
    """A socket that has said nothing yet."""
    reader, writer = await asyncio.open_connection(host, port, limit=2**20)
    try:
        yield RawSocket(reader, writer)
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def raw_websocket(host: str, port: int, *headers: str) -> AsyncIterator[RawSocket]:
    """A socket whose handshake is over."""
    async with raw_socket(host, port) as raw:
        raw.send(request("Host: localhost", *headers))
        assert await raw.status() == 101
        yield raw
