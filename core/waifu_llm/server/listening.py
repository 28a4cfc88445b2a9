"""Binds the sockets that the server listens on, and makes a failure to do so one clear line."""

import errno
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from websockets.asyncio.server import Server as SocketServer

from waifu_llm.config import ServerSettings
from waifu_llm.errors import ModuleError

if TYPE_CHECKING:
    import ssl

Bind = Callable[[str, int], Awaitable[SocketServer]]

_V4: Final = "127.0.0.1"
_V6: Final = "::1"
_FREE_PORT_TRIES: Final = 10
# As many connections as the system keeps until they are accepted.
_BACKLOG: Final = 1024
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_SAID_EVERY_S: Final = 10.0

_log = logging.getLogger(__name__)


class _NoMoreFiles(logging.Filter):
    """asyncio says with a trace, each second, that it can accept nothing; one line now and then says what to do."""

    def __init__(self) -> None:
        super().__init__()
        self._said = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        accepting = record.getMessage().startswith("socket.accept()")
        if not accepting or not isinstance(error, OSError) or error.errno not in _EXHAUSTED:
            return True
        if record.created - self._said >= _SAID_EVERY_S:
            self._said = record.created
            _log.error("new clients have to wait: %s; raise the limit of open files (ulimit -n)", error.strerror)
        return False


logging.getLogger("asyncio").addFilter(_NoMoreFiles())


def deepen(server: SocketServer) -> None:
    """Let many connections wait for `accept`, though asyncio was told to take one of them at a time.

    It accepts as many in a turn of the loop as it believes that may wait: other clients would wait for all of them, and
    each would be a failure of its own where no more files can be opened.
    """
    for listening in server.sockets:
        with listening.dup() as same:
            same.listen(_BACKLOG)


class CannotListen(ModuleError):
    """The address cannot be listened on."""


async def listen(bind: Bind, settings: ServerSettings) -> tuple[list[SocketServer], str, int]:
    """The servers, a host at which this machine's clients reach them, as in a URL, and the port.

    Raises: CannotListen.
    """
    if settings.host.lower() != "localhost":
        server = await _bind(bind, settings.host, settings.port)
        return [server], _reachable(settings.host), _port_of(server)
    # Clients that say localhost may try either address first: both must be ours.
    for _ in range(_FREE_PORT_TRIES):
        first = await _bind(bind, _V4, settings.port)
        port = _port_of(first)
        try:
            return [first, await bind(_V6, port)], settings.host, port
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return [first], settings.host, port
            first.close()
            await first.wait_closed()
            if settings.port:
                raise _cannot(_V6, port, error) from error
    raise CannotListen("found no port that is free on both 127.0.0.1 and ::1; choose one with --port")


async def _bind(bind: Bind, host: str, port: int) -> SocketServer:
    try:
        return await bind(host, port)
    except OSError as error:
        raise _cannot(host, port, error) from error


def _reachable(host: str) -> str:
    """Listening everywhere includes loopback; an IPv6 address has brackets in a URL."""
    host = {"": _V4, "0.0.0.0": _V4, "::": _V6}.get(host, host)  # noqa: S104 - named, not bound to
    return f"[{host}]" if ":" in host else host


def _cannot(host: str, port: int, error: OSError) -> CannotListen:
    if error.errno == errno.EADDRINUSE:
        return CannotListen(
            f"port {port} on {host} is in use; `waifu-llm ps` shows whether a module runs there already, "
            "--port chooses another"
        )
    return CannotListen(f"cannot listen on {host}, port {port}: {error.strerror or error}; see --host and --port")


def _port_of(server: SocketServer) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


def tls(settings: ServerSettings) -> "ssl.SSLContext | None":
    """The context for wss, None for ws. Raises: CannotListen."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    import ssl  # late: clients on this machine need none

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(Path(settings.tls_cert), Path(settings.tls_key))
    except (OSError, ssl.SSLError) as error:
        raise CannotListen(
            f"cannot use server.tls_cert {settings.tls_cert} with server.tls_key {settings.tls_key}: {error}"
        ) from error
    return context
