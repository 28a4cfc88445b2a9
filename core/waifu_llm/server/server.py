"""Listens, lets clients in by the rules of `doors`, owns all connections, and drains them at the end."""

import asyncio
import contextlib
import http
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
from websockets.asyncio.server import Server as SocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from waifu_client.protocol import ErrorCode, GetStatsDone, ProviderDetails, RequestId
from waifu_llm.config import ServerSettings, Settings
from waifu_llm.doors import SUBPROTOCOL, ModuleDoors
from waifu_llm.redaction import Redactor
from waifu_llm.server.arrivals import Arrivals, Arriving, Room, forget_handshake
from waifu_llm.server.connection import Connection
from waifu_llm.server.kept import Kept
from waifu_llm.server.listening import Bind, deepen, listen, tls
from waifu_llm.server.writer import CLOSE_S
from waifu_llm.session import Effect, Session
from waifu_llm.stats import Statistics
from waifu_llm.supervision.jobs import Loaded, PoolInterface
from waifu_worker.doors import Denied

if TYPE_CHECKING:
    import ssl

_GOING_AWAY: Final = 1001
# Flushing a client that still reads, and its answer to the close frame.
_DRAIN_S: Final = CLOSE_S + 1.0
_CUT_S: Final = 1.0

_log = logging.getLogger(__name__)
_socket_log = logging.getLogger("waifu_llm.server.websockets")
# Below this level the library writes headers, with the token in them, and message texts.
_socket_log.setLevel(logging.WARNING)


class Timing(msgspec.Struct, frozen=True):
    """Seconds: to say what one wants; between pings, and to answer them, where clients come from other machines."""

    open_s: float = 10.0
    ping_every_s: float = 20.0
    ping_answer_s: float = 60.0


class Server:
    """The module's WebSocket. `stop_requested` is set when a client's `close` asks the module to stop.

    `gateway_token` is what the gateways of this run send, where there are some: they need no other token, and the limit
    of connections is not for them. `gateway_url` is where they connect, None where that is where all do.
    Raises: UsageError, where the settings would leave the module open to other machines.
    """

    def __init__(
        self,
        pool: PoolInterface,
        settings: Settings,
        statistics: Statistics,
        redactor: Redactor,
        gateway_token: str | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.pool = pool
        self.statistics = statistics
        self.log_content = settings.log.content
        self.stop_requested = asyncio.Event()
        self.gateway_url: str | None = None
        self._settings = settings
        self._redactor = redactor
        redactor.add(settings.token)
        self._doors = ModuleDoors.of(settings.server, settings.token, gateway_token)
        self._timing = timing or Timing()
        self._room = Room.of(settings.limits.connections)
        self._arrivals = Arrivals(self._room.arriving)
        self._loop = asyncio.get_running_loop()
        # One of each for all connections.
        self._clock = self._loop.time
        self._shared = _nothing_shared if self._doors.isolated else lambda: pool.last_loaded
        self._providers = Kept(pool.providers, self._clock, self._clock)
        self._workers = Kept(pool.workers, self._clock, time.thread_time)
        self._environments = Kept(pool.environments, self._clock, self._clock)
        self._servers: list[SocketServer] = []
        self._connections: set[Connection] = set()
        self._clients = 0
        self._empty = asyncio.Event()
        self._closing = False

    async def start(self) -> tuple[str, int]:
        """Listen; a host at which this machine's clients reach it, as in a URL, and the port.

        Raises: ModuleError. Cancelling it is safe.
        """
        for warning in self._doors.warnings:
            _log.warning("%s", warning)
        context = tls(self._settings.server)
        interval = None if self._doors.loopback else self._timing.ping_every_s
        self._servers, host, port = await listen(self._binder(self._let_in, context, interval), self._settings.server)
        if context is not None and self._doors.gateway_token is not None:
            # A certificate names what clients connect to, which is not what this machine calls itself.
            bind = self._binder(self._let_gateway_in, None, None)
            servers, own_host, own_port = await listen(bind, ServerSettings(port=0))
            self._servers += servers
            self.gateway_url = f"ws://{own_host}:{own_port}"
        return host, port

    def _binder(
        self,
        let_in: Callable[[ServerConnection, Request], Response | None],
        context: "ssl.SSLContext | None",
        ping_interval: float | None,
    ) -> Bind:
        async def bind(host: str, port: int) -> SocketServer:
            server = await serve(
                self._handle,
                host,
                port,
                ssl=context,
                compression=None,
                max_size=2 * self._settings.limits.message_bytes,
                process_request=let_in,
                process_response=_name_subprotocol,
                server_header=None,
                ping_interval=ping_interval,
                open_timeout=self._timing.open_s,
                ssl_handshake_timeout=None if context is None else self._timing.open_s,
                ping_timeout=self._timing.ping_answer_s,
                close_timeout=CLOSE_S,
                logger=_socket_log,
                # Any factory will do, says its documentation.
                create_connection=partial(Arriving, self._arrivals),  # type: ignore[arg-type]
                backlog=1,
            )
            deepen(server)
            return server

        return bind

    async def drain(self) -> None:
        """Tell every running request that the module stops, flush, close with 1001; bounded to a few seconds.

        Cancelling it is safe but leaves sockets open; call it again.
        """
        self._begin_closing()
        for server in self._servers:
            server.close(close_connections=False)
        for connection in self._connections:
            connection.end(_GOING_AWAY, "the module is stopping")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self._connections:
                    self._empty.clear()
                    await self._empty.wait()
        for connection in self._connections:
            connection.cut()
        # Sockets that never said who they are may keep a server from closing; nothing of them is of any worth.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CUT_S):
                for server in self._servers:
                    await server.wait_closed()

    # What connections ask of it.

    def request_stop(self) -> None:
        """A client asked the module to stop: what runs is told at once, the rest is `drain`."""
        self._begin_closing()
        self.stop_requested.set()

    def interrupt_everybody(self, asker: Connection, request_id: RequestId) -> None:
        """Stop all generations; the asker's acknowledgement goes before its own terminal messages."""
        interrupted: list[RequestId] = []
        stops: list[tuple[Connection, list[Effect]]] = []
        for connection in (asker, *(other for other in self._connections if other is not asker)):
            ids, effects = connection.session.interrupt_generations()
            interrupted += ids
            stops.append((connection, effects))
        asker.perform(asker.session.everybody_interrupted(request_id, interrupted))
        for connection, effects in stops:
            connection.perform(effects)

    def providers(self) -> Mapping[str, ProviderDetails]:
        """Every worker there is."""
        return self._providers.get()

    def stats_for(self, request_id: RequestId) -> GetStatsDone:
        """What runs and how it fares."""
        return GetStatsDone(
            unique_request_id=request_id,
            is_error=False,
            error=ErrorCode.SUCCESS,
            workers=self._workers.get(),
            environments=self._environments.get(),
            connections=len(self._connections),
            counters=self.statistics.counters(),
        )

    def _begin_closing(self) -> None:
        if not self._closing:
            self._closing = True
            for connection in list(self._connections):
                connection.perform(connection.session.closing())

    # One connection.

    def _let_in(self, socket: ServerConnection, request: Request) -> Response | None:
        self._arrivals.left(socket)
        headers = request.headers
        denied = self._doors.check(
            headers.get_all("Host"),
            headers.get_all("Origin"),
            headers.get_all("Authorization"),
            headers.get_all("Sec-WebSocket-Protocol"),
        )
        if denied is None and self._clients >= self._room.clients and not self._is_gateway(request):
            denied = Denied(503, "Too many connections; try again later.\n")
        return self._refusal(socket, denied)

    def _let_gateway_in(self, socket: ServerConnection, request: Request) -> Response | None:
        self._arrivals.left(socket)
        headers = request.headers
        denied = self._doors.check_gateway(
            headers.get_all("Host"), headers.get_all("Origin"), headers.get_all("Authorization")
        )
        return self._refusal(socket, denied)

    def _is_gateway(self, request: Request) -> bool:
        return self._doors.is_gateway(request.headers.get_all("Authorization"))

    def _refusal(self, socket: ServerConnection, denied: Denied | None) -> Response | None:
        if denied is None:
            return None
        _log.info("refused a connection with HTTP %d: %s", denied.status, denied.text.strip())
        response = socket.respond(denied.status, denied.text)
        if denied.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def _handle(self, socket: ServerConnection) -> Coroutine[None, None, None]:
        """The whole life of a connection, without a frame of ours around it."""
        of_gateway = socket.request is not None and self._is_gateway(socket.request)
        forget_handshake(socket)
        session = Session(
            shared=self._shared,
            redactor=self._redactor,
            clock=self._clock,
            remote_close=self._settings.server.remote_close,
            limits=self._settings.limits,
            limited=not of_gateway,
        )
        if self._closing:
            session.closing()
        connection = Connection(socket, session, self, self._settings.limits, of_gateway=of_gateway)
        self._connections.add(connection)
        self._clients += not of_gateway
        return connection.run()

    def left(self, connection: Connection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        self._clients -= not connection.of_gateway
        if not self._connections:
            self._empty.set()


def _nothing_shared() -> Loaded | None:
    return None


def _name_subprotocol(_: ServerConnection, request: Request, response: Response) -> None:
    """Only our own name is echoed, never the one that holds the token.

    The library's own way makes three objects for each connection, which keep all of it from being freed when it ends.
    """
    offered = ",".join(request.headers.get_all("Sec-WebSocket-Protocol")).split(",")
    if response.status_code == http.HTTPStatus.SWITCHING_PROTOCOLS and SUBPROTOCOL in map(str.strip, offered):
        response.headers["Sec-WebSocket-Protocol"] = SUBPROTOCOL
