"""A WebSocket client on a bare socket: cheap enough for thousands, and free to do what no library would.

It sends whole or broken frames, stops reading when it wants to, and leaves without a word.
"""

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

_TEXT: Final = 0x81
_CLOSE: Final = 0x88
_PONG: Final = 0x8A
_NO_MASK: Final = bytes(4)
_HEAD_END: Final = b"\r\n\r\n"


class Refused(Exception):
    """The server did not upgrade; the text is its first line."""


class RawWebSocket(asyncio.Protocol):
    """One connection. `on_message` gets each message's JSON; `closed` is its close code, None without one."""

    transport: asyncio.Transport

    def __init__(self, on_message: Callable[[dict[str, Any]], None]) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[int | None] = loop.create_future()
        self.received = 0
        self._on_message = on_message
        self._buffer = b""
        self._code: int | None = None

    @classmethod
    async def connect(
        cls,
        url: str,
        on_message: Callable[[dict[str, Any]], None],
        headers: Mapping[str, str] = {},
        receive_buffer: int | None = None,
    ) -> "RawWebSocket":
        """Connect and upgrade. Raises: Refused, OSError."""
        host, port = urlsplit(url).hostname, urlsplit(url).port
        raw = socket.socket()
        try:
            if receive_buffer is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            raw.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(raw, (host, port))
            _, client = await loop.create_connection(lambda: cls(on_message), sock=raw)
        except BaseException:
            raw.close()
            raise
        lines = {
            "Host": f"{host}:{port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            **headers,
        }
        head = ["GET / HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items()), "", ""]
        client.transport.write("\r\n".join(head).encode("latin-1"))
        try:
            await client.opened
        except BaseException:
            client.abort()
            raise
        return client

    def say(self, message: Mapping[str, object]) -> None:
        """Send one message."""
        self.send(json.dumps(message).encode())

    def send(self, payload: bytes) -> None:
        """Send one text frame with whatever is in it."""
        self.transport.write(frame(_TEXT, payload))

    def pause(self) -> None:
        """Read nothing more until `resume`."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def leave(self) -> None:
        """Say goodbye as one should."""
        self.transport.write(frame(_CLOSE, struct.pack(">H", 1000)))
        self.transport.close()

    def abort(self) -> None:
        """Be gone, with a reset."""
        raw = self.transport.get_extra_info("socket")
        if raw is not None and raw.fileno() >= 0:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(Refused("closed in the handshake"))
            self.opened.exception()
        if not self.closed.done():
            self.closed.set_result(self._code)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        data = self._buffer + data
        if not self.opened.done():
            head, found, data = data.partition(_HEAD_END)
            if not found:
                self._buffer = head
                return
            self._upgraded(head)
        self._buffer = self._frames(data)

    def _upgraded(self, head: bytes) -> None:
        first = head.split(b"\r\n")[0].decode("latin-1")
        if " 101 " in first:
            self.opened.set_result(None)
        else:
            self.opened.set_exception(Refused(first))
            self.opened.exception()

    def _frames(self, data: bytes) -> bytes:
        """Handle every whole frame; what is left."""
        start = 0
        while (found := _payload(data, start)) is not None:
            begin, end = found
            kind, payload = data[start], data[begin:end]
            start = end
            if kind == _TEXT:
                self._on_message(json.loads(payload))
            elif kind == _CLOSE:
                self._code = struct.unpack_from(">H", payload)[0] if len(payload) >= 2 else None
                self.transport.write(frame(_CLOSE, payload[:2]))
                self.transport.close()
            elif kind == 0x89:
                self.transport.write(frame(_PONG, payload))
        return data[start:]


def frame(kind: int, payload: bytes) -> bytes:
    """One frame as a client sends it; the mask is zeros."""
    size = len(payload)
    if size < 126:
        head = struct.pack(">BB", kind, 0x80 | size)
    elif size < 65536:
        head = struct.pack(">BBH", kind, 0x80 | 126, size)
    else:
        head = struct.pack(">BBQ", kind, 0x80 | 127, size)
    return head + _NO_MASK + payload


def _payload(data: bytes, start: int) -> tuple[int, int] | None:
    """Where the payload of the frame at `start` begins and ends; None while it is not whole."""
    if len(data) - start < 2:
        return None
    size, begin = data[start + 1], start + 2
    if size >= 126:
        form, width = (">H", 2) if size == 126 else (">Q", 8)
        if len(data) - begin < width:
            return None
        size, begin = struct.unpack_from(form, data, begin)[0], begin + width
    return (begin, begin + size) if len(data) - begin >= size else None
