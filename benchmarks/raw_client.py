"""The cheapest WebSocket client there can be, so that it is not what is measured: text frames, no extensions."""

import asyncio
import base64
import os
import struct
from collections.abc import Callable
from typing import Final, Self
from urllib.parse import urlsplit

_TEXT, _PONG, _CLOSE = 0x81, 0x8A, 0x88
_KEY: Final = b"\0\0\0\0"  # the mask that changes nothing


class RawClient(asyncio.Protocol):
    """One connection to a ws:// URL. `on_text` gets the bytes of every text message; `bytes_read` counts all."""

    def __init__(self, host: str, port: int, on_text: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.bytes_read = 0
        self.closed: asyncio.Future[None] = loop.create_future()
        self._place = f"{host}:{port}"
        self._on_text = on_text
        self._opened: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._fragments = b""

    @classmethod
    async def open(cls, url: str, on_text: Callable[[bytes], None]) -> Self:
        """Connect. Raises: OSError, also where the handshake is refused."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        _, client = await asyncio.get_running_loop().create_connection(lambda: cls(host, port, on_text), host, port)
        await client._opened
        return client

    def send(self, message: bytes) -> None:
        """One text message."""
        self._frame(_TEXT, message)

    def close(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET / HTTP/1.1\r\nHost: {self._place}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits for it is told."""
        if not self._opened.done():
            self._opened.set_exception(ConnectionError("the connection closed before the handshake was done"))
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Frames, or before them the answer to the handshake."""
        self.bytes_read += len(data)
        data = self._rest + data if self._rest else data
        if not self._opened.done():
            head, blank, rest = data.partition(b"\r\n\r\n")
            if blank and b" 101 " not in head:
                self._opened.set_exception(ConnectionError(head.decode("latin-1")))
            elif blank:
                self._opened.set_result(None)
            data = rest if blank else data
            if not blank:
                self._rest = data
                return
        self._rest = self._split(data)

    def _split(self, data: bytes) -> bytes:
        """Hand on every whole frame; returns what is left."""
        at, end, on_text = 0, len(data), self._on_text
        while end - at >= 2:
            first, length, payload = data[at], data[at + 1], at + 2
            if length > 125:
                payload += 2 if length == 126 else 8
                if payload > end:
                    break
                length = int.from_bytes(data[at + 2 : payload], "big")
            if payload + length > end:
                break
            at = payload + length
            if first == _TEXT:
                on_text(data[payload:at])
            else:
                self._other(first, data[payload:at])
        return data[at:]

    def _other(self, first: int, payload: bytes) -> None:
        match first & 15:
            case 0 | 1:
                self._fragments += payload
                if first & 128:
                    whole, self._fragments = self._fragments, b""
                    self._on_text(whole)
            case 9:
                self._frame(_PONG, payload)
            case 8:
                self._frame(_CLOSE, payload)
                self.close()
            case _:
                raise ConnectionError(f"a frame that begins with {first:#x}")

    def _frame(self, first: int, payload: bytes) -> None:
        length = len(payload)
        if length < 126:
            head = struct.pack(">BB", first, 0x80 | length)
        elif length < 65536:
            head = struct.pack(">BBH", first, 0x80 | 126, length)
        else:
            head = struct.pack(">BBQ", first, 0x80 | 127, length)
        if self._transport is not None:
            self._transport.write(head + _KEY + payload)
