"""Who gets in: every Host with every Origin, over HTTP and WebSocket, on the real server."""

import asyncio
import contextlib
import itertools
import logging
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import pytest
from support.socket_io import FakeService, Polling, event, gateway, raw_websocket, read
from support.waiting import bounded
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

LISTED: Final[dict[str, Any]] = {"allowed_origins": ("https://listed.example:8443",), "allowed_hosts": ("llm.example",)}
# {port} is the gateway's own.
GOOD_HOSTS: Final = (
    "localhost:{port}",
    "127.0.0.1:{port}",
    "[::1]:{port}",
    "LOCALHOST:{port}",
    "localhost",
    "llm.example:{port}",
    "127.9.8.7:80",
)
BAD_HOSTS: Final = (
    "evil.example",
    "evil.example:{port}",
    "localhost.evil.example:{port}",
    "localhost.:{port}",
    "127.0.0.1.evil.example",
    "0.0.0.0:{port}",
    "127.1:{port}",
    "2130706433",
    "user@localhost",
    "localhost:{port}:80",
    "localhost:99999",
    "[::1",
    "xllm.example",
    "l\xf6calhost",
)
GOOD_ORIGINS: Final = (
    None,
    "http://localhost",
    "http://localhost:{port}",
    "http://127.0.0.1:5173",
    "https://[::1]:8080",
    "https://listed.example:8443",
    "HTTPS://Listed.Example:8443",
)
BAD_ORIGINS: Final = (
    "null",
    "",
    "https://evil.example",
    "http://evil.example:{port}",
    "https://listed.example",
    "http://listed.example:8443",
    "https://listed.example.evil.example:8443",
    "http://localhost.evil.example",
    "http://localhost:9600@evil.example",
    "http://localhost/",
    "file://",
    "chrome-extension://abc",
    "http://0.0.0.0:{port}",
    "http://127.0.0.1:5173, http://evil.example",
    "http://l\xf6calhost",
)
PATHS: Final = ("/socket.io/?EIO=4&transport=polling", "/avatars/a/b/c", "/playground", "/", "/static/x", "/nothing")
MATRIX: Final = [
    *itertools.product(GOOD_HOSTS, GOOD_ORIGINS, [True]),
    *itertools.product(BAD_HOSTS, ("http://localhost:{port}", None), [False]),
    *((host, "http://" + host, False) for host in BAD_HOSTS),
    *itertools.product(("localhost:{port}", "llm.example"), BAD_ORIGINS, [False]),
]


def headers(address: str, host: str, origin: str | None) -> dict[str, str]:
    port = urlsplit(address).port
    named = {"Host": host.format(port=port)}
    return named if origin is None else {**named, "Origin": origin.format(port=port)}


async def statuses(address: str, host: str, origin: str | None) -> set[int]:
    """How the socket answers, on every path, by raw bytes: no client library would send all of these."""
    port = urlsplit(address).port
    seen = set()
    for path in PATHS:
        seen.add(await status(port, f"GET {path} HTTP/1.1", headers(address, host, origin)))
    return seen


async def status(port: int | None, line: str, named: dict[str, str]) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [line, *(f"{name}: {value}" for name, value in named.items()), "Connection: close", "", ""]
    async with bounded():
        writer.write("\r\n".join(head).encode("latin-1"))
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    return int(answer.split(b" ", 2)[1])


async def upgrade(address: str, named: dict[str, str]) -> int:
    """The status of a WebSocket's handshake with exactly these headers."""
    return int((await handshake(address, named)).split(b" ", 2)[1])


async def handshake(address: str, named: dict[str, str]) -> bytes:
    """The answer to one, as far as its head; all of it where the connection is closed."""
    key = {
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
    }
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(address).port)
    line = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1"
    head = [line, *(f"{name}: {value}" for name, value in {**named, **key}.items()), "Connection: Upgrade", "", ""]
    async with bounded():
        writer.write("\r\n".join(head).encode("latin-1"))
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in answer:
            answer += await reader.read()
        writer.close()
        await writer.wait_closed()
    return answer


async def test_only_the_listed_combinations_of_host_and_origin_come_in(no_leaks: None) -> None:
    service = FakeService()
    wrong = []
    async with gateway(service, **LISTED) as address:
        for host, origin, welcome in MATRIX:
            seen = await statuses(address, host, origin)
            shook = await upgrade(address, headers(address, host, origin))
            if welcome and (seen != {200, 404} or shook != 101):
                wrong.append((host, origin, seen, shook))
            # What is no header value at all is a bad request before it is a forbidden one.
            if not welcome and (not seen <= {403, 400} or shook not in (403, 400) or (seen == {400}) != (shook == 400)):
                wrong.append((host, origin, seen, shook))
    assert len(MATRIX) > 120
    assert wrong == []
    assert service.told == [("closed",)]


@pytest.mark.parametrize("kind", ["polling", "websocket"])
async def test_a_name_that_points_here_is_told_where_to_list_it(kind: str) -> None:
    service = FakeService()
    evil = {"Host": "evil.example:9600", "Origin": "http://evil.example:9600"}
    async with gateway(service) as address:
        if kind == "polling":
            async with aiohttp.ClientSession() as http, http.get(address, headers=evil) as response:
                found, text = response.status, await response.text()
        else:
            answer = await handshake(address, evil)
            found, text = int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2].decode()
    assert (found, text) == (403, "This Host is not allowed; list it in gateway.lollms.allowed_hosts.\n")


async def test_two_hosts_or_two_origins_are_none() -> None:
    async with gateway(FakeService()) as address:
        port = urlsplit(address).port
        host = f"localhost:{port}"
        twice = {"Host": host, "Origin": "http://localhost", "origin": "http://localhost"}
        assert await status(port, "GET / HTTP/1.1", twice) == 403
        assert await upgrade(address, twice) in (400, 403)
        assert await status(port, "GET / HTTP/1.1", {"Host": host, "host": "evil.example"}) in (400, 403)
        assert await status(port, "GET / HTTP/1.0", {}) == 403
        assert await status(port, "GET http://evil.example/ HTTP/1.1", {"Host": host}) in (200, 404)


async def test_a_page_on_another_loopback_port_may_poll(no_leaks: None) -> None:
    service = FakeService()
    page = {"Origin": "http://127.0.0.1:5173"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-own"}
    async with gateway(service) as address, aiohttp.ClientSession() as http:
        polling = Polling(http, address, page)
        async with http.options(polling.url, headers={**page, **asked}) as response:
            assert response.status == HTTPStatus.OK
            assert response.headers["Access-Control-Allow-Origin"] == page["Origin"]
            assert response.headers["Access-Control-Allow-Methods"] == "GET, POST"
            assert response.headers["Access-Control-Allow-Headers"] == "content-type,x-own"
            assert response.headers["Access-Control-Allow-Credentials"] == "true"
            assert response.headers["Vary"] == "Origin"
        async with http.get(polling.url, headers=page) as response:
            assert response.status == HTTPStatus.OK
            assert response.headers.getall("Access-Control-Allow-Origin") == [page["Origin"]]
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        await polling.open()
        assert (await polling.next()).startswith("40")
        await polling.post('42["x"]')
        assert event(await polling.next())[0] == "echo"


@pytest.mark.parametrize("origin", ["null", "https://evil.example", None])
async def test_no_other_page_is_told_that_it_may_read(origin: str | None) -> None:
    async with gateway(FakeService()) as address, aiohttp.ClientSession() as http:
        named = {} if origin is None else {"Origin": origin}
        for method in ("OPTIONS", "GET", "POST"):
            async with http.request(method, f"{address}/socket.io/?EIO=4&transport=polling", headers=named) as response:
                assert (response.status == HTTPStatus.FORBIDDEN) == (origin is not None)
                assert not [name for name in response.headers if name.lower().startswith("access-control-allow-origin")]


async def test_a_page_gets_no_session_by_a_script_tag() -> None:
    """JSONP needs no Origin, and would hand a session to any page."""
    async with gateway(FakeService()) as address:
        line = "GET /socket.io/?EIO=4&transport=polling&j=0 HTTP/1.1"
        assert await status(urlsplit(address).port, line, {"Host": "localhost"}) == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 400),
        ("?EIO=3&transport=polling", 400),
        ("?EIO=4", 200),
        ("?EIO=4&transport=websocket", 400),
        ("?EIO=4&transport=flashsocket", 400),
        ("?EIO=4&transport=polling&transport=websocket", 400),
        ("?EIO=4&transport=polling&sid=unknown", 400),
        ("?EIO=4&transport=polling&sid=", 400),
        ("?EIO=4&transport=polling&sid=a&sid=b", 400),
        ("?EIO=4&transport=polling&" + "&".join(f"f{number}=1" for number in range(40)), 400),
        ("?EIO=4&transport=polling&t=%ff%00", 200),
    ],
)
async def test_a_request_that_no_client_makes_is_refused(query: str, expected: int) -> None:
    async with gateway(FakeService()) as address:
        port = urlsplit(address).port
        assert await status(port, f"GET /socket.io/{query} HTTP/1.1", {"Host": "localhost"}) == expected


async def test_a_websocket_elsewhere_or_for_no_session_is_refused_and_is_no_error_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with gateway(FakeService()) as address:
        ws = address.replace("http", "ws", 1)
        for url, code in ((f"{ws}/other", 404), (f"{ws}/socket.io/?EIO=3&transport=websocket", 400)):
            await refused(url, code)
        await refused(f"{ws}/socket.io/?EIO=4&transport=websocket&sid=unknown", 400)
        await refused(f"{ws}/socket.io/?EIO=4&transport=polling", 400)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def refused(url: str, code: int) -> None:
    with pytest.raises(InvalidStatus) as error:
        async with bounded():
            await connect(url)
    assert error.value.response.status_code == code


@pytest.mark.parametrize(
    "named",
    [{f"x-{number}": "1" for number in range(300)}, {"x": "y" * 9_000}, {"x": "y" * 100_000}, {"x": "\xff\xfe"}],
    ids=["many", "long", "huge", "binary"],
)
async def test_headers_beyond_measure_cost_their_connection_only(named: dict[str, str], no_leaks: None) -> None:
    service = FakeService()
    async with gateway(service) as address:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            assert await upgrade(address, {"Host": "localhost", **named}) in (101, 400, 431)
        async with raw_websocket(address) as websocket:
            assert (await read(websocket)).startswith("0{")
