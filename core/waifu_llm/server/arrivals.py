"""Sockets that have not said yet what they want: how many there may be, how long, and with how many words."""

import asyncio
import logging
import sys
from typing import Final

if sys.platform != "win32":
    import resource

import msgspec
from websockets.asyncio.server import Server as SocketServer
from websockets.asyncio.server import ServerConnection
from websockets.server import ServerProtocol

# All headers together; the library bounds each line (8,192 bytes) and their number (128).
MOST_HEADER_BYTES: Final = 64 * 1024
# What is read of a socket in one turn of the loop: small messages in it are hundreds, and all others wait for them.
MOST_READ_BYTES: Final = 64 * 1024
# What stays free for workers' pipes, files and uv, where few files may be open.
_SPARE_FILES: Final = 256

_log = logging.getLogger(__name__)


class Room(msgspec.Struct, frozen=True):
    """How many sockets there may be: of clients that were let in, and of those that still arrive."""

    clients: int
    arriving: int

    @classmethod
    def of(cls, connections: int) -> "Room":
        """What the setting allows, or the number of files that this process may open."""
        files = _most_files()
        usable = files - min(_SPARE_FILES, files // 2)
        arriving = min(connections, max(1, usable // 4))
        return cls(min(connections, usable - arriving), arriving)


def _most_files() -> int:
    if sys.platform != "win32":
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY:
            return soft
    return sys.maxsize


class Arrivals:
    """Those that still arrive, in their order. One too many takes the place of the one that has said nothing longest.

    So whoever says at once what it wants gets in, however many sit there in silence.
    """

    def __init__(self, most: int) -> None:
        # One for all sockets: whoever reads into it takes it out again in the same call.
        self.buffer = memoryview(bytearray(MOST_READ_BYTES))
        self._most = most
        self._waiting: dict[Arriving, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def came(self, socket: "Arriving") -> None:
        """A client has connected."""
        if len(self._waiting) >= self._most:
            oldest = next(iter(self._waiting))
            self.left(oldest)
            oldest.turn_away(503, "Service Unavailable", "Too many clients connect at once; try again later.")
        self._waiting[socket] = None

    def left(self, socket: ServerConnection) -> None:
        """It has said what it wants, or is gone. Safe to repeat."""
        if isinstance(socket, Arriving):
            self._waiting.pop(socket, None)


class Arriving(ServerConnection, asyncio.BufferedProtocol):
    """A connection that is counted until its request is there. It reads `MOST_READ_BYTES` at a time."""

    def __init__(
        self,
        arrivals: Arrivals,
        protocol: ServerProtocol,
        server: SocketServer,
        **options: float | int | tuple[int | None, int | None] | None,
    ) -> None:
        super().__init__(protocol, server, **options)  # type: ignore[arg-type]
        self._arrivals = arrivals
        self._heard = 0

    def connection_made(self, transport: object) -> None:
        """It is there."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._arrivals.came(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to."""
        return self._arrivals.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So much of it is read: of a request all is counted, of messages nothing."""
        if self.request is None:
            self._heard += nbytes
            if self._heard > MOST_HEADER_BYTES:
                self.turn_away(431, "Request Header Fields Too Large", "The headers are too large.")
                return
        self.data_received(bytes(self._arrivals.buffer[:nbytes]))

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._arrivals.left(self)
        super().connection_lost(exc)

    def turn_away(self, status: int, phrase: str, text: str) -> None:
        """Answer without having heard a request, and hear no more of it."""
        _log.info("turned a client away with HTTP %d", status)
        body = f"{text}\n".encode()
        head = f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
        self.transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.transport.close()


def forget_handshake(socket: ServerConnection) -> None:
    """Drop the headers of a client that was let in: the library keeps them as long as the socket.

    They are a fifth of what an idle connection costs, and hold its token.
    """
    # Not the request itself: the library's parser holds that too, and takes frames only where there is one.
    if socket.request is not None:
        socket.request.path = ""
        socket.request.headers.clear()
    socket.response = None
