"""HTTP as the workers of web services need it, over the `aiohttp` that a worker hands in.

Only a worker's own environment has `aiohttp`, so this module never imports it. What it settles once for all
providers: no time limit but the one for connecting (the core owns deadlines), no retries, no redirects, no
cookies, no `.netrc`, no compression, bounded bodies, the user's proxies, no connection to a link-local or metadata
address whatever name leads there, and errors as `ProviderError`.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec

from waifu_worker import __version__, tls
from waifu_worker.addresses import leads_nowhere_good, place
from waifu_worker.http_errors import Refusal, failure, read_details, read_plain, retry_after_ms
from waifu_worker.provider import ProviderError
from waifu_worker.upstream import Upstream
from waifu_worker.wire import Code

if TYPE_CHECKING:
    import ssl

CONNECT_S: Final = 10.0
ERROR_BODY_S: Final = 5.0
ERROR_BODY_BYTES: Final = 64 * 1024
ANSWER_BYTES: Final = 8 * 1024 * 1024
# Longer than the pauses of a conversation: a new TLS connection costs as much as the first words. What lies between
# here and there forgets a silent connection sooner, so it is probed meanwhile, and one that died is not used again.
_KEEP_ALIVE_S: Final = 300.0
_PROBES: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
# What is kept of one response before its service has to wait, twice over. Small ones keep a flood fair to its
# neighbours, and aiohttp 3.14 asks to read on once per HTTP chunk while less than this waits: 0.5 us per chunk.
_READ_AHEAD_BYTES: Final = 16 * 1024
_DRAIN_S: Final = 0.05
_POST_HEADERS: Final = {"Content-Type": "application/json", "Accept": "text/event-stream"}


_AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]


class Body(Protocol):
    """A response's body as it comes in."""

    async def readany(self) -> bytes:
        """What has come by now; waits where that is nothing. b"" at the end."""
        ...

    def at_eof(self) -> bool:
        """Whether everything was read."""
        ...


class Response(Protocol):
    """A response whose headers are there; `aiohttp.ClientResponse` is one."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in any case."""
        ...

    @property
    def content_type(self) -> str:
        """In lower case, without parameters."""
        ...

    @property
    def content(self) -> Body:
        """The body, decompressed."""
        ...

    def close(self) -> None:
        """Give the connection up, unless the body was read to its end."""
        ...


class Session(Protocol):
    """What is used of an `aiohttp.ClientSession`."""

    def get(self, url: str, *, allow_redirects: bool, ssl: "ssl.SSLContext | bool") -> Awaitable[Response]: ...  # noqa: D102

    def post(  # noqa: D102
        self, url: str, *, data: bytes, headers: Mapping[str, str], allow_redirects: bool, ssl: "ssl.SSLContext | bool"
    ) -> Awaitable[Response]: ...

    async def close(self) -> None: ...  # noqa: D102


class HttpLibrary(Protocol):
    """What is used of the module `aiohttp`."""

    @property
    def ClientSession(self) -> Callable[..., Session]: ...  # noqa: D102
    @property
    def ClientTimeout(self) -> Callable[..., object]: ...  # noqa: D102
    @property
    def TCPConnector(self) -> Callable[..., object]: ...  # noqa: D102
    @property
    def DummyCookieJar(self) -> Callable[..., object]: ...  # noqa: D102
    @property
    def ClientError(self) -> type[Exception]: ...  # noqa: D102
    @property
    def ClientOSError(self) -> type[Exception]: ...  # noqa: D102
    @property
    def ClientConnectorError(self) -> type[Exception]: ...  # noqa: D102
    @property
    def InvalidURL(self) -> type[Exception]: ...  # noqa: D102
    @property
    def ServerDisconnectedError(self) -> type[Exception]: ...  # noqa: D102


class _Attempt(msgspec.Struct):
    """Whether a socket was made for a request; none is where it goes out on a connection that served one before."""

    connects: bool = False


# aiohttp's own tracing tells the same, and costs each request 50 us for all that it could tell besides.
_attempt: Final[ContextVar[_Attempt | None]] = ContextVar("attempt", default=None)


class HttpClient:
    """One service's connections; made on the running loop, closed with `close`.

    `network_errors` are the exceptions that reading a response may raise; `lost` makes a ProviderError of them.
    """

    def __init__(self, library: HttpLibrary, upstream: Upstream, headers: Mapping[str, str | None]) -> None:
        self.upstream = upstream
        self.network_errors: Final = (library.ClientError, OSError, TimeoutError)
        # A reset comes as aiohttp's own kind of OSError, which is no ConnectionError.
        self._hung_up: Final = (library.ServerDisconnectedError, library.ClientOSError)
        self._leaving: set[asyncio.Task[None]] = set()
        self._not_connected: Final = library.ClientConnectorError
        self._no_address: Final = library.InvalidURL
        proxy = _proxy(upstream.base_url)
        self._way = "" if proxy is None else f" through {_named_proxy(proxy)}"
        # Read in a thread, which holds nobody up. A proxy may be asked over TLS for what has none itself.
        self._tls = (
            asyncio.get_running_loop().run_in_executor(None, tls.context)
            if "https" in (urlsplit(upstream.base_url).scheme, (proxy or "").partition("://")[0].lower())
            else None
        )
        self._session = library.ClientSession(
            connector=library.TCPConnector(
                limit=0,
                keepalive_timeout=_KEEP_ALIVE_S,
                # A proxy is where the user put it, and looks names up by itself.
                socket_factory=_checked_socket if proxy is None else _probed_socket,
            ),
            timeout=library.ClientTimeout(total=None, sock_connect=CONNECT_S),
            read_bufsize=_READ_AHEAD_BYTES,
            cookie_jar=library.DummyCookieJar(),
            # trust_env would read .netrc as well, in a thread, for every request, and refuse our key where it has one.
            proxy=proxy,
            headers={
                "User-Agent": f"waifu-llm/{__version__}",
                "Accept-Encoding": "identity",
                **{name: value for name, value in headers.items() if value is not None},
            },
        )

    async def close(self) -> None:
        """Close every connection, also those in use."""
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await self._session.close()

    async def stream(self, path: str, body: Mapping[str, object]) -> Response:
        """Post `body` as JSON; the response has its headers only and any status. The caller must close it.

        Cancelling it is safe: the connection is closed. Raises: ProviderError where the service can't be reached.
        """
        data = msgspec.json.encode(body)
        while True:
            attempt = _Attempt()
            _attempt.set(attempt)
            try:
                return await self._session.post(
                    self.upstream.base_url + path,
                    data=data,
                    headers=_POST_HEADERS,
                    allow_redirects=False,
                    ssl=await self._trust(),
                )
            except self.network_errors as error:
                # A service may hang up on an idle connection just as the next request leaves (some do after every
                # error of their own): it has not seen that request, and asking again is no second generation.
                if attempt.connects or not self._is_hang_up(error):
                    raise self._unreachable(error) from error

    async def _trust(self) -> "ssl.SSLContext | bool":
        """What TLS is checked with; without any, whatever aiohttp has."""
        # A request that is cancelled meanwhile is not the only one that waits.
        return True if self._tls is None else await asyncio.shield(self._tls)

    def _is_hang_up(self, error: Exception) -> bool:
        return isinstance(error, self._hung_up) and not isinstance(error, self._not_connected)

    async def get(self, path: str) -> bytes:
        """The body behind `path`. Cancelling it is safe. Raises: ProviderError for everything but success."""
        try:
            response = await self._session.get(
                self.upstream.base_url + path, allow_redirects=False, ssl=await self._trust()
            )
        except self.network_errors as error:
            raise self._unreachable(error) from error
        try:
            if not is_success(response):
                raise failure(self.upstream, await self.refusal(response))
            return await self.read(response)
        finally:
            response.close()

    async def read(self, response: Response) -> bytes:
        """The whole body of a success. Raises: ProviderError where it breaks off or is over `ANSWER_BYTES`."""
        try:
            body = await _read(response, ANSWER_BYTES)
        except self.network_errors as error:
            raise self.lost(error) from error
        if len(body) > ANSWER_BYTES:
            raise ProviderError(
                Code.UNEXPECTED, f"{self.upstream.title} sends an answer of more than {ANSWER_BYTES >> 20} MiB"
            )
        return body

    def leave(self, response: Response, *, complete: bool) -> None:
        """Be done with a response. A complete answer's last bytes may still be on their way: they are read meanwhile,
        nobody waits for them, and the connection is fit for the next request. Any other is closed here and now, so
        that the service stops generating.
        """
        if complete and not response.content.at_eof():
            task = asyncio.get_running_loop().create_task(self._drain(response))
            self._leaving.add(task)
            # Not by the task itself: one that is cancelled before its first turn does nothing at all.
            task.add_done_callback(lambda _: response.close())
            task.add_done_callback(self._leaving.discard)
        else:
            response.close()

    async def _drain(self, response: Response) -> None:
        with suppress(*self.network_errors):
            async with asyncio.timeout(_DRAIN_S):
                while not response.content.at_eof():
                    await response.content.readany()

    async def refusal(self, response: Response, model: str | None = None) -> Refusal:
        """What a failed response says; as much of its body as comes in time."""
        body = bytearray()
        with suppress(*self.network_errors):
            async with asyncio.timeout(ERROR_BODY_S):
                await _read(response, ERROR_BODY_BYTES, body)
        details = read_details(bytes(body))
        return Refusal(
            response.status,
            details,
            retry_after_ms(response.headers, time.time()),
            model,
            response.headers.get("Location"),
            read_plain(bytes(body)) if details is None else "",
        )

    def lost(self, error: Exception) -> ProviderError:
        """The error for a connection that broke in the middle of an answer."""
        return ProviderError(
            Code.UNEXPECTED,
            f"the connection to {self.upstream.title} at {self.upstream.host} broke in the middle of the answer"
            f" ({self._named(error)}). Try again.",
            reason="truncated",
        )

    def _unreachable(self, error: Exception) -> ProviderError:
        if isinstance(getattr(error, "os_error", None), _NeverAProvider):
            return ProviderError(
                Code.UNEXPECTED,
                f"{self.upstream.host} leads to a link-local or metadata address, which is never a provider."
                " Check base_url.",
            )
        return ProviderError(
            Code.UNEXPECTED,
            f"{self.upstream.title} can't be reached at {self.upstream.host}{self._way} ({self._named(error)})."
            " Check the network, the proxy variables and base_url, then try again.",
            reason="provider_down",
        )

    def _named(self, error: Exception) -> str:
        if isinstance(error, self._no_address):
            return "no usable address"  # aiohttp quotes it, and a proxy's has a password in it
        # What aiohttp says around it is the host once more, and an object that has to do with TLS.
        reason = getattr(error, "os_error", error)
        return self.upstream.quote(str(reason)) or type(reason).__name__


class _NeverAProvider(OSError):
    """An address that nothing is sent to."""


def _checked_socket(info: _AddressInfo) -> socket.socket:
    """A socket for what `getaddrinfo` found: looked at here, whatever the name led to a moment ago."""
    if leads_nowhere_good(info[4][0]):
        raise _NeverAProvider("a link-local or metadata address")
    return _probed_socket(info)


def _probed_socket(info: _AddressInfo) -> socket.socket:
    """A socket whose connection the system looks after while it is idle."""
    if (attempt := _attempt.get()) is not None:
        attempt.connects = True
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    with suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Each system has some of these.
        for name, value in _PROBES.items():
            if hasattr(socket, name):
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


def is_success(response: Response) -> bool:
    """Whether the status is one of 2xx; redirects are failures."""
    return 200 <= response.status < 300


async def _read(response: Response, limit: int, into: bytearray | None = None) -> bytes:
    body = bytearray() if into is None else into
    while len(body) <= limit and (data := await response.content.readany()):
        body += data
    return bytes(body)


def _proxy(url: str) -> str | None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = getproxies().get(parts.scheme)
    # Whoever has a proxy but no exceptions to it still means this machine when saying 127.0.0.1.
    if not proxy or _is_loopback(host) or proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _named_proxy(proxy: str) -> str:
    """A proxy for whoever asked, who may sit at another machine: its name helps and is no secret, its password is."""
    found = place(proxy)
    return "a proxy" if found is None else f"the proxy {':'.join(filter(None, found))}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
