"""The doors over real sockets: handshakes, the port, TLS."""

import asyncio
import base64
import contextlib
import errno
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from support.fake_pool import FakePool
from support.peer import connected
from support.serving import serving
from support.waiting import bounded
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from waifu_llm.config import LimitSettings, ServerSettings, Settings
from waifu_llm.errors import ModuleError, UsageError
from waifu_llm.redaction import Redactor
from waifu_llm.server import Server
from waifu_llm.server.listening import listen
from waifu_llm.stats import Statistics

TOKEN = "a-token-of-some-length"
CERTIFICATE = Path(__file__).parent / "data" / "localhost.pem"


def server_of(settings: ServerSettings, token: str | None = None) -> Server:
    return Server(FakePool(), Settings(server=settings, token=token), Statistics(), Redactor())


async def knock(host: str, port: int, *headers: str) -> int:
    """The HTTP status that a handshake with these headers gets."""
    reader, writer = await asyncio.open_connection(host, port)
    lines = ["GET / HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *headers]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    async with bounded():
        status = int((await reader.readline()).split()[1])
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (("Host: 127.0.0.1",), 101),
        (("Host: localhost:7562", "Origin: http://localhost:3000"), 101),
        (("Host: [::1]:1", "Origin: https://127.0.0.1"), 101),
        ((), 403),
        (("Host:",), 403),
        (("Host: evil.example",), 403),
        (("Host: evil.example", "Origin: http://evil.example"), 403),
        (("Host: localhost", "Host: localhost"), 403),
        (("Host: localhost", "Origin: http://evil.example"), 403),
        (("Host: localhost", "Origin: null"), 403),
        (("Host: localhost", "Origin: http://localhost", "Origin: http://evil.example"), 403),
        (("Host: [::1", "Origin: http://[::1"), 403),
        (("Host: localhost", "Origin: \xff\xfe"), 403),
        (("Host: \xff",), 403),
        (("Host: %s" % ("x" * 4000),), 403),
        (("Host: localhost", "Origin: http://%s" % ("[" * 2000)), 403),
    ],
)
async def test_only_loopback_hosts_and_pages_get_in(headers: tuple[str, ...], status: int) -> None:
    async with serving() as running:
        assert await knock(running.host, running.port, *headers) == status
        assert await knock(running.host, running.port, "Host: localhost") == 101


async def test_without_the_token_nobody_gets_in() -> None:
    async with serving(token=TOKEN) as running:
        with pytest.raises(InvalidStatus) as refused:
            await connect(running.url)
        assert refused.value.response.status_code == 401
        assert refused.value.response.headers["WWW-Authenticate"] == "Bearer"
        with pytest.raises(InvalidStatus):
            await connect(running.url, additional_headers={"Authorization": "Bearer wrong"})
        async with connected(running.url, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as peer:
            await peer.say("get_providers")
            await peer.hear_types("get_providers_done")


async def test_why_somebody_was_not_let_in_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serving() as running:
        assert await knock(running.host, running.port, "Host: localhost", "Origin: https://page.example") == 403
    assert "HTTP 403: This Origin is not allowed; list it in server.allow_origin." in caplog.text


async def test_a_browsers_token_comes_as_a_subprotocol_and_is_not_echoed() -> None:
    encoded = base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("=")
    offered = [Subprotocol("waifu-llm"), Subprotocol(f"bearer.{encoded}")]
    async with serving(token=TOKEN) as running, connect(running.url, subprotocols=offered) as browser:
        assert browser.subprotocol == "waifu-llm"


async def test_other_subprotocols_are_neither_needed_nor_echoed() -> None:
    async with serving() as running, connect(running.url, subprotocols=[Subprotocol("chat")]) as socket:
        assert socket.subprotocol is None


async def test_compression_is_never_agreed_on() -> None:
    async with serving() as running, connect(running.url, compression="deflate") as socket:
        assert socket.response is not None
        assert "Sec-WebSocket-Extensions" not in socket.response.headers


async def test_one_connection_more_than_there_may_be_gets_503_and_the_others_go_on() -> None:
    limits = LimitSettings(connections=2)
    async with serving(limits=limits) as running, connected(running.url) as one, connected(running.url):
        with pytest.raises(InvalidStatus) as refused:
            await connect(running.url)
        assert refused.value.response.status_code == 503
        await one.say("get_providers")
        await one.hear_types("get_providers_done")


async def test_a_token_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with serving(token=TOKEN) as running:
        async with connected(running.url, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as peer:
            await peer.say("generate", messages=[{"role": "user", "content": "a-private-thought"}])
            await peer.hear_types("generate_ack", "generate_done")
        assert running.redactor.scrub(TOKEN) != TOKEN
        ours = [r.getMessage() for r in caplog.records if r.name.startswith("waifu_llm")]
    assert not [text for text in ours if TOKEN in text or "a-private-thought" in text]


# Gateways.

OF_THIS_RUN = "what-gateways-send"
GATEWAY: dict[str, Any] = {"additional_headers": {"Authorization": f"Bearer {OF_THIS_RUN}"}}


async def test_a_gateway_comes_in_by_its_own_token_where_clients_need_another() -> None:
    async with serving(token=TOKEN, gateway_token=OF_THIS_RUN) as running:
        assert running.server.gateway_url is None
        async with connected(running.url, **GATEWAY) as peer:
            await peer.say("get_providers")
            await peer.hear_types("get_providers_done")


async def test_gateways_are_no_clients_where_connections_are_limited() -> None:
    limits = LimitSettings(connections=1)
    async with (
        serving(limits=limits, gateway_token=OF_THIS_RUN) as running,
        connected(running.url, **GATEWAY),
        connected(running.url, **GATEWAY) as second,
        connected(running.url) as client,
    ):
        with pytest.raises(InvalidStatus) as refused:
            await connect(running.url)
        assert refused.value.response.status_code == 503
        async with connected(running.url, **GATEWAY):
            await client.say("get_stats")
            (stats,) = await client.hear_types("get_stats_done")
            assert stats["connections"] == 4
        await second.say("get_providers")
        await second.hear_types("get_providers_done")


async def test_a_gateway_that_left_is_not_counted_any_more() -> None:
    limits = LimitSettings(connections=1)
    async with serving(limits=limits, gateway_token=OF_THIS_RUN) as running:
        async with connected(running.url, **GATEWAY) as gateway:
            await gateway.say("get_providers")
            await gateway.hear_types("get_providers_done")
        async with connected(running.url), connected(running.url, **GATEWAY):
            with pytest.raises(InvalidStatus):
                await connect(running.url)


async def test_with_a_certificate_gateways_get_an_address_of_their_own_that_lets_nobody_else_in() -> None:
    settings = ServerSettings(tls_cert=str(CERTIFICATE), tls_key=str(CERTIFICATE))
    async with serving(server=settings, token=TOKEN, gateway_token=OF_THIS_RUN) as running:
        url = running.server.gateway_url
        assert url is not None
        assert url.startswith("ws://127.0.0.1:")
        async with connected(url, **GATEWAY) as peer:
            await peer.say("get_providers")
            await peer.hear_types("get_providers_done")
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}"}):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, additional_headers=headers)
            assert refused.value.response.status_code == 401
    with pytest.raises(OSError, match=r"."):
        await connect(url, **GATEWAY)


async def test_without_gateways_a_certificate_opens_no_second_address() -> None:
    settings = ServerSettings(tls_cert=str(CERTIFICATE), tls_key=str(CERTIFICATE))
    async with serving(server=settings) as running:
        assert running.server.gateway_url is None


# Starting.


async def test_a_port_in_use_is_one_clear_line() -> None:
    async with serving() as running:
        with pytest.raises(ModuleError, match=rf"port {running.port} on 127\.0\.0\.1 is in use"):
            await server_of(ServerSettings(port=running.port)).start()


async def test_an_address_of_somebody_else_is_one_clear_line() -> None:
    with pytest.raises(ModuleError, match=r"cannot listen on 192\.0\.2\.1"):
        await server_of(ServerSettings(host="192.0.2.1", port=0), TOKEN).start()


def test_off_loopback_there_is_no_server_without_a_token() -> None:
    with pytest.raises(UsageError):
        asyncio.run(_made("0.0.0.0"))


async def _made(host: str) -> Server:
    return server_of(ServerSettings(host=host))


async def test_what_is_risky_is_said_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ModuleError):
        await server_of(ServerSettings(host="192.0.2.1"), TOKEN).start()
    assert "without TLS" in caplog.text


class _Listening:
    """As much of a listening server as binding needs."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open = True

    @property
    def sockets(self) -> list["_Listening"]:
        return [self]

    def getsockname(self) -> tuple[str, int]:
        return "", self.port

    def close(self) -> None:
        self.open = False

    async def wait_closed(self) -> None:
        assert not self.open


class _Machine:
    """What binding to ::1 does, each time it is tried."""

    def __init__(self, *v6: int | None) -> None:
        self.v6 = list(v6)
        self.bound: list[_Listening] = []

    async def bind(self, host: str, port: int) -> Any:
        error = self.v6.pop(0) if host == "::1" else None
        if error is not None:
            raise OSError(error, "it cannot")
        self.bound.append(_Listening(port or 40000 + len(self.bound)))
        return self.bound[-1]


LOCALHOST = ServerSettings(host="localhost", port=0)


@pytest.mark.parametrize(
    ("host", "url_host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("192.168.1.5", "192.168.1.5"),
    ],
)
async def test_the_host_that_is_told_is_one_to_connect_to(host: str, url_host: str) -> None:
    assert (await listen(_Machine(None).bind, ServerSettings(host=host)))[1] == url_host


async def test_without_ipv6_localhost_is_one_address() -> None:
    servers, host, port = await listen(_Machine(errno.EADDRNOTAVAIL).bind, LOCALHOST)
    assert (len(servers), host, port) == (1, "localhost", 40000)


async def test_a_free_port_is_looked_for_until_both_addresses_have_it() -> None:
    machine = _Machine(errno.EADDRINUSE, errno.EADDRINUSE, None)
    servers, _, port = await listen(machine.bind, LOCALHOST)
    assert (len(servers), port) == (2, 40002)
    assert [server.open for server in machine.bound] == [False, False, True, True]


async def test_the_search_for_a_free_port_ends() -> None:
    with pytest.raises(ModuleError, match="no port that is free"):
        await listen(_Machine(*[errno.EADDRINUSE] * 99).bind, LOCALHOST)


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


async def test_localhost_is_both_addresses_where_there_are_two() -> None:
    async with serving(server=ServerSettings(host="localhost")) as running:
        for host in ("127.0.0.1", "::1") if has_ipv6() else ("127.0.0.1",):
            assert await knock(host, running.port, "Host: localhost") == 101


async def test_localhost_needs_its_port_on_both_addresses() -> None:
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6)
        if has_ipv6()
        else socket.create_server(("127.0.0.1", 0)) as taken
    ):
        port = taken.getsockname()[1]
        with pytest.raises(ModuleError, match=f"port {port} on .* is in use"):
            await server_of(ServerSettings(host="localhost", port=port)).start()


async def test_with_a_certificate_the_module_speaks_wss() -> None:
    settings = ServerSettings(tls_cert=str(CERTIFICATE), tls_key=str(CERTIFICATE))
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    async with serving(server=settings) as running:
        url = f"wss://127.0.0.1:{running.port}"
        async with connected(url, ssl=trusting) as peer:
            await peer.say("get_providers")
            await peer.hear_types("get_providers_done")


async def test_a_certificate_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.pem"
    with pytest.raises(ModuleError, match=r"nothing\.pem"):
        await server_of(ServerSettings(tls_cert=str(nothing), tls_key=str(nothing))).start()
    nothing.write_text("no certificate")
    with pytest.raises(ModuleError, match=r"nothing\.pem"):
        await server_of(ServerSettings(tls_cert=str(nothing), tls_key=str(nothing))).start()
