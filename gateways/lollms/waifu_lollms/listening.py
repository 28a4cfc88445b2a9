"""Binds what the gateway listens on, and runs the server there: in this loop, without handlers of signals."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import uvicorn

from waifu_lollms.connections import Http, WebSocket
from waifu_lollms.limits import Limits
from waifu_worker.gateway import CannotServe

_V4: Final = "127.0.0.1"
_V6: Final = "::1"
_FREE_PORT_TRIES: Final = 10
_BACKLOG: Final = 128
# A client has one connection, two while it polls; the rest is for those that come and go.
_CONNECTIONS_PER_CLIENT: Final = 2
_SPARE_CONNECTIONS: Final = 64


def bind(host: str, port: int) -> tuple[list[socket.socket], str]:
    """Listening sockets, and the address as users open it; a host's name may be looked up, so it blocks.

    `localhost` is both of its addresses, on one port. Raises: CannotServe.
    """
    if host.lower() != "localhost":
        listening = _bind(host, port)
        return [listening], f"http://{_reachable(host)}:{_port_of(listening)}"
    for _ in range(_FREE_PORT_TRIES):
        first = _bind(_V4, port)
        chosen = _port_of(first)
        try:
            return [first, _open(_V6, chosen)], f"http://localhost:{chosen}"
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return [first], f"http://localhost:{chosen}"
            first.close()
            if port:
                raise _cannot(_V6, port, error) from error
    raise CannotServe("found no port that is free on both 127.0.0.1 and ::1; choose one with gateway.lollms.port")


def _bind(host: str, port: int) -> socket.socket:
    try:
        return _open(host, port)
    except (OSError, UnicodeError) as error:
        raise _cannot(host, port, error) from error


def _open(host: str, port: int) -> socket.socket:
    [family, kind, protocol, _, address] = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    opened = socket.socket(family, kind, protocol)
    try:
        # Elsewhere it would let a second program listen on the same port.
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        opened.bind(address)
        opened.listen(_BACKLOG)
        opened.setblocking(False)
    except BaseException:
        opened.close()
        raise
    return opened


def _reachable(host: str) -> str:
    """Listening everywhere includes loopback; an IPv6 address has brackets in a URL."""
    host = {"": _V4, "0.0.0.0": _V4, "::": _V6}.get(host, host)  # noqa: S104 - named, not bound to
    return f"[{host}]" if ":" in host else host


def _cannot(host: str, port: int, error: Exception) -> CannotServe:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return CannotServe(
            f"port {port} on {host} is in use, perhaps by a LoLLMs server or another module; end that one, or choose "
            "another with gateway.lollms.port"
        )
    reason = getattr(error, "strerror", None) or error
    return CannotServe(
        f"cannot listen on {host}, port {port}: {reason}; see gateway.lollms.host and gateway.lollms.port"
    )


def _port_of(listening: socket.socket) -> int:
    port: int = listening.getsockname()[1]
    return port


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The process ends with its input; what else a signal should do is not a server's business."""
        yield


@asynccontextmanager
async def listening(
    app: Any, sockets: list[socket.socket], limits: Limits, clients: int, leave: Callable[[], Any]
) -> AsyncIterator[None]:
    """Serve `app` on these sockets, which take connections already, for up to `clients` programs.

    In the end `leave` is awaited, so that it may tell them.
    """
    most = clients * _CONNECTIONS_PER_CLIENT + _SPARE_CONNECTIONS
    config = uvicorn.Config(
        app,
        http=type("Http", (Http,), {"limits": limits, "most_connections": most}),
        ws=type("WebSocket", (WebSocket,), {"limits": limits}),
        ws_max_size=limits.message_bytes,
        # engine.io has pings of its own.
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        workers=1,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets))
    try:
        yield
    finally:
        server.should_exit = True
        with contextlib.suppress(Exception):
            await leave()
        await _end(server, serving, limits)


async def _end(server: uvicorn.Server, serving: "asyncio.Task[None]", limits: Limits) -> None:
    """Connections get a moment to end; then they are cut, since a client that reads nothing would keep us."""
    await asyncio.wait((serving,), timeout=limits.close_s)
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    await serving
