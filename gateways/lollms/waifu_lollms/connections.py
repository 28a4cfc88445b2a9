"""The server's connections, with the bounds that uvicorn leaves to a proxy in front of it: a client that sends no
request, or that reads nothing, goes."""

import asyncio
import logging
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from waifu_lollms.limits import Limits
from waifu_lollms.sessions import LINK

_log: Final = logging.getLogger(__name__)
_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Stall:
    """Aborts a transport out of whose full buffer nothing went for `seconds`."""

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0

    def begin(self) -> None:
        """Its buffer is full."""
        self._left = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)

    def end(self) -> None:
        """It has room again, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._transport.get_write_buffer_size() < self._left:
            self.begin()
        else:
            self._transport.abort()


class WebSocket(WebSocketsSansIOProtocol):
    """One WebSocket."""

    limits = Limits()
    _stall: Stall

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It takes over from HTTP."""
        super().connection_made(transport)
        self._stall = Stall(self.transport, self.limits.stall_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stall.end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads too slowly; it is not heard either, so that answers to its pings do not pile up."""
        super().pause_writing()
        self._stall.begin()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._stall.end()
        if not self.read_paused:
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Bytes that the library cannot make sense of end the connection, not more."""
        try:
            super().data_received(data)
        except Exception as error:
            _log.info("a WebSocket was closed: %r", error, exc_info=_log.isEnabledFor(logging.DEBUG))
            self.transport.abort()
        # The first bytes are a whole request. One with more headers than the library reads would hang here for ever.
        if not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(_BAD_REQUEST)
            self.transport.close()

    async def send(self, message: Any) -> None:
        """What the application says. The library takes a refusal for a handshake that was forgotten, and logs it.

        Raises: ClientDisconnected where the client is gone, also before the loop has told so: asyncio would write a
        line to the log for each message.
        """
        if message["type"] == "websocket.send" and self.transport.is_closing():
            raise ClientDisconnected
        await super().send(message)
        self.handshake_complete = self.handshake_complete or self.close_sent

    def handle_connect(self, event: Request) -> None:
        """The handshake, with the way to end this connection for the application."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[LINK] = self.transport.abort


class Http(H11Protocol):
    """One HTTP connection."""

    limits = Limits()
    most_connections = 1024
    _stall: Stall
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """One more connection, unless there are too many."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._stall = Stall(self.transport, self.limits.stall_s)
        if len(self.connections) > self.most_connections:
            self.transport.abort()
        else:
            self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stall.end()
        self._request_came()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        super().pause_writing()
        self._stall.begin()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._stall.end()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, whose head must be there in time, however slowly it comes."""
        super().data_received(data)
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.get_protocol() is not self:
            self._request_came()
        else:
            self._wait_for_request()

    def _wait_for_request(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(self.limits.head_s, self.transport.abort)

    def _request_came(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
