"""One WebSocket to a module: who waits for which reply. Knows nothing of what requests mean.

A reader and a writer task belong to the connection. Callers put requests into the writer's queue without waiting,
so that cancelling a caller never cuts a frame in two and an interrupt can be sent from anywhere, also while a task
is being cancelled.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from waifu_client.errors import AuthorizationError, ConnectionLost, LLMError, ModuleNotRunning, UnexpectedError
from waifu_client.exchange import Exchange
from waifu_client.protocol import (
    DEFAULT_PORT,
    AnyRequest,
    ErrorReply,
    Generate,
    Interrupt,
    Load,
    decode_reply,
    encode_request,
)

DEFAULT_URL: Final = f"ws://127.0.0.1:{DEFAULT_PORT}"
MAX_MESSAGE: Final = 128 * 2**20  # bytes: a 16 MiB answer can grow sixfold when JSON escapes it
# What is read in one turn of the loop: small messages in asyncio's 256 KiB are thousands, and all else waits for them;
# in a program with twenty connections twenty times so many. What is not read yet travels on in fewer, larger pieces:
# the module joins them.
READ_BYTES: Final = 4 * 1024
OPEN_S: Final = 10.0
CLOSE_S: Final = 2.0
PING_S: Final = 20.0  # off loopback only: on it a dead module closes the socket
PONG_S: Final = 60.0


class _Socket(ClientConnection, asyncio.BufferedProtocol):
    """Reads `READ_BYTES` at a time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._buffer = memoryview(bytearray(READ_BYTES))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So much of it is read."""
        self.data_received(bytes(self._buffer[:nbytes]))


class Connection:
    """An open socket, its two tasks and the requests that wait on it."""

    def __init__(self, socket: ClientConnection) -> None:
        self.loop = asyncio.get_running_loop()
        self._socket = socket
        self._waiting: dict[str | int, Exchange] = {}
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._last_id = 0
        self._lost: ConnectionLost | None = None
        self._notice: str | None = None
        self._tasks = [self._start(self._read()), self._start(self._write())]

    @classmethod
    async def open(
        cls, url: str, token: str | None, tls: ssl.SSLContext | None = None, *, open_s: float = OPEN_S
    ) -> Self:
        """Connect. Cancelling is safe. Raises: ModuleNotRunning, AuthorizationError, UnexpectedError, ValueError."""
        local = _is_loopback(url)
        try:
            socket = await open_socket(
                url,
                additional_headers={"Authorization": f"Bearer {token}"} if token else None,
                compression=None,
                max_size=MAX_MESSAGE,
                open_timeout=open_s,
                close_timeout=CLOSE_S,
                ping_interval=None if local else PING_S,
                ping_timeout=PONG_S,
                proxy=None if local else True,
                create_connection=_Socket,
                ssl=tls or (urlsplit(url).scheme == "wss" or None),
            )
        except InvalidURI as error:
            raise ValueError(f"not a WebSocket address, such as {DEFAULT_URL}: {error.uri}") from None
        except InvalidStatus as error:
            raise _refusal(error.response.status_code) from None
        except ssl.SSLError as error:
            raise ModuleNotRunning(
                f"what answers at {_place(url)} speaks no TLS, or has a certificate that is not trusted here: "
                f"{getattr(error, 'verify_message', '') or error.reason or error}"
            ) from error
        except (OSError, InvalidHandshake, EOFError) as error:
            raise ModuleNotRunning(
                f"no module answers at {_place(url)}: run `waifu-llm serve`, then try again"
            ) from error
        return cls(socket)

    def new_id(self) -> str:
        """An id that no request of this connection has had."""
        self._last_id += 1
        return str(self._last_id)

    def start(self, request: AnyRequest) -> Exchange:
        """Send a request; its replies come to the exchange. Raises: ConnectionLost, UnicodeEncodeError."""
        if self._lost is not None:
            raise _again(self._lost)
        frame = encode_request(request)
        exchange = Exchange(request, self._left)
        self._waiting[request.unique_request_id] = exchange
        self._outgoing.put_nowait(frame)
        return exchange

    async def aclose(self) -> None:
        """Close the socket; requests that still wait end with ConnectionLost. At most a few seconds, safe to repeat."""
        self._lose("this client closed the connection")
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.wait(self._tasks)
            await self._socket.close()
        finally:
            self._socket.transport.abort()

    def _left(self, exchange: Exchange) -> None:
        target = exchange.request.unique_request_id
        self._waiting.pop(target, None)
        if not exchange.over and isinstance(exchange.request, Load | Generate):
            interrupt = Interrupt(unique_request_id=self.new_id(), target_request_id=target)
            self._outgoing.put_nowait(encode_request(interrupt))  # nobody wants its ack

    def _start(self, job: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self.loop.create_task(job)

    async def _read(self) -> None:
        why = "the module ended the connection"
        try:
            while True:
                self._route(await self._socket.recv(decode=False))
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                why += f" ({closed.rcvd.code}{': ' + closed.rcvd.reason if closed.rcvd.reason else ''})"
        finally:
            self._lose(f"{why}: {self._notice}" if self._notice else why)

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionClosed):  # the reader says so to everybody
            while True:
                await self._socket.send(await self._outgoing.get(), text=True)

    def _route(self, frame: bytes) -> None:
        try:
            reply = decode_reply(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # a message type of a newer module; nothing of ours waits for it
        exchange = self._waiting.get(reply.unique_request_id)
        if exchange is not None:
            exchange.deliver(reply)
        elif isinstance(reply, ErrorReply) and isinstance(reply.message, str):
            self._notice = reply.message  # it could not name its request: it explains the close that follows

    def _lose(self, why: str) -> None:
        if self._lost is None:
            self._lost = ConnectionLost(why)
            for exchange in list(self._waiting.values()):
                exchange.deliver(_again(self._lost))
            self._waiting.clear()


def _again(error: ConnectionLost) -> ConnectionLost:
    # An exception object of its own for each caller: a raised one collects tracebacks.
    return ConnectionLost(error.message)


def _place(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refusal(status: int) -> LLMError:
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return AuthorizationError("the module wants a token, and this one is none or not its own: pass `token=`")
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return UnexpectedError("the module has too many connections: try again later", reason="busy")
        case _:
            return UnexpectedError(f"the server at this address refuses the connection (HTTP {status})")
