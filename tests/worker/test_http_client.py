"""What of HTTP no scenario of a fake service shows: connections that end between two requests."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Never

import aiohttp
import pytest
from support.waiting import bounded, until

from waifu_worker.http_client import HttpClient
from waifu_worker.provider import ProviderError
from waifu_worker.upstream import Upstream

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"
Behaviour = Callable[[int, int], bytes | None]


@asynccontextmanager
async def server(
    behaviour: Behaviour, *, reset: bool = False
) -> AsyncIterator[tuple[HttpClient, list[tuple[int, int]]]]:
    """A client and its server, and what that has seen: the connection and the request in it, each from 0.

    `behaviour` gives the answer to a request, None to hang up instead: with a FIN, or with a RST where `reset`.
    """
    seen: list[tuple[int, int]] = []
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        connection, count = count, count + 1
        for request in range(100):
            head = await reader.read(65536)
            answer = behaviour(connection, request) if head else None
            if head:
                seen.append((connection, request))
            if answer is None:
                break
            writer.write(answer)
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening, bounded():
        port = listening.sockets[0].getsockname()[1]
        client = HttpClient(aiohttp, Upstream("Acme", f"http://127.0.0.1:{port}"), {})
        try:
            yield client, seen
        finally:
            await client.close()


async def ask(client: HttpClient) -> bytes:
    return await client.read(await client.stream("/chat", {}))


@pytest.mark.parametrize("reset", [False, True])
async def test_a_request_on_a_connection_that_the_service_hangs_up_is_made_again_on_a_new_one(reset: bool) -> None:
    async with server(lambda _, request: ANSWER if request == 0 else None, reset=reset) as (client, seen):
        for _ in range(3):
            assert await ask(client) == b"{}"
    assert seen == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]


async def test_a_service_that_hangs_up_on_a_new_connection_is_asked_once() -> None:
    async with server(lambda *_: None) as (client, seen):
        with pytest.raises(ProviderError, match="can't be reached"):
            await ask(client)
    assert seen == [(0, 0)]


async def test_a_service_that_goes_away_for_good_is_asked_until_a_new_connection_fails_too() -> None:
    async with server(lambda connection, request: ANSWER if (connection, request) == (0, 0) else None) as (
        client,
        seen,
    ):
        await ask(client)
        with pytest.raises(ProviderError, match="can't be reached"):
            await ask(client)
    assert seen == [(0, 0), (0, 1), (1, 0)]


@asynccontextmanager
async def two_parts(rest: bytes) -> AsyncIterator[tuple[HttpClient, asyncio.Event, asyncio.Event, list[int]]]:
    """A service that writes the beginning of each answer, the `rest` of it once the first event is set, and sets the
    second when its client has hung up; and the number of its connection, per request.
    """
    more, gone, seen = asyncio.Event(), asyncio.Event(), list[int]()
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        connection, count = count, count + 1
        while await reader.read(65536):
            seen.append(connection)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nend\r\n")
            await more.wait()
            writer.write(rest)
        writer.close()
        gone.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening, bounded():
        port = listening.sockets[0].getsockname()[1]
        client = HttpClient(aiohttp, Upstream("Acme", f"http://127.0.0.1:{port}"), {})
        try:
            yield client, more, gone, seen
        finally:
            more.set()
            await client.close()


async def test_nobody_waits_for_the_last_bytes_of_a_complete_answer_and_they_keep_its_connection() -> None:
    async with two_parts(b"0\r\n\r\n") as (client, more, _, seen):
        for _ in range(2):
            response = await client.stream("/chat", {})
            assert await response.content.readany() == b"end"
            client.leave(response, complete=True)
            assert not response.content.at_eof()
            more.set()
            await until(response.content.at_eof, "the answer's end has come")
            more.clear()
    assert seen == [0, 0]


@pytest.mark.parametrize("complete", [True, False])
async def test_an_answer_that_is_left_before_its_service_ends_it_costs_its_connection(complete: bool) -> None:
    async with two_parts(b"") as (client, more, gone, _):
        response = await client.stream("/chat", {})
        assert await response.content.readany() == b"end"
        client.leave(response, complete=complete)
        more.set()
        await gone.wait()


@pytest.mark.parametrize("turns", [0, 1])
async def test_a_client_that_is_closed_waits_for_no_last_bytes(turns: int) -> None:
    async with two_parts(b"") as (client, more, gone, _):
        response = await client.stream("/chat", {})
        assert isinstance(response, aiohttp.ClientResponse)
        client.leave(response, complete=True)
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.close()
        # Else aiohttp complains of it, in a loop that is debugged.
        assert response.closed
        more.set()
        await gone.wait()


async def test_of_a_flood_no_more_is_read_ahead_than_is_good_for_its_neighbours() -> None:
    events = b"".join(b"20\r\n%b\r\n" % (b"x" * 32) for _ in range(20_000)) + b"0\r\n\r\n"
    async with two_parts(events) as (client, more, _, _):
        more.set()
        response = await client.stream("/chat", {})
        reads = []
        while data := await response.content.readany():
            reads.append(len(data))
    assert sum(reads) == 3 + 32 * 20_000
    assert max(reads) <= 64 * 1024


@pytest.mark.parametrize("by_proxy", [False, True])
async def test_a_connection_is_looked_after_while_nobody_talks(by_proxy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_parts(b"") as (direct, _, _, seen):
        monkeypatch.setenv("http_proxy", direct.upstream.base_url)
        by_way = HttpClient(aiohttp, Upstream("Acme", "http://acme.example"), {})
        response = await (by_way if by_proxy else direct).stream("/chat", {})
        assert isinstance(response, aiohttp.ClientResponse)
        assert response.connection is not None
        assert response.connection.transport is not None
        connected = response.connection.transport.get_extra_info("socket")
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        response.close()
        await by_way.close()
    assert seen == [0]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_who_can_t_be_reached_is_said_once_and_by_which_way(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv(f"{scheme}_proxy", f"http://user:password@{nobody}")
    for host, way in ((nobody, ""), ("acme.example", f" through the proxy {nobody}")):
        client = HttpClient(aiohttp, Upstream("Acme", f"{scheme}://{host}"), {})
        with pytest.raises(ProviderError) as refused:
            await client.get("/models")
        await client.close()
        begin, _, reason = str(refused.value).partition(" ([")
        assert begin == f"Acme can't be reached at {host}{way}"
        assert reason.partition("] ")[2].startswith("Connect call failed")


@pytest.mark.parametrize(
    ("begin", "way"),
    [
        ("http://me:1/secret@", "a proxy"),
        ("http://me:secret/secret@", "a proxy"),
        ("http://me#secret@", "a proxy"),
        ("http://me:[secret]@", "the proxy NOBODY"),
        ("http://me:s@secret@", "the proxy NOBODY"),
        ("HTTP://", "the proxy NOBODY"),
    ],
)
async def test_a_proxy_is_named_without_any_of_its_password(
    begin: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("http_proxy", begin + nobody)

    async def nowhere(*_: object, **__: object) -> Never:
        raise OSError("no such name")

    # A password may make another host of what stands before it, which nobody is to be asked for.
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nowhere)
    client = HttpClient(aiohttp, Upstream("Acme", "http://acme.example"), {})
    with pytest.raises(ProviderError) as refused:
        await client.get("/models")
    await client.close()
    told = str(refused.value)
    assert told.startswith(f"Acme can't be reached at acme.example through {way.replace('NOBODY', nobody)} (")
    assert "secret" not in told
    assert "me:" not in told
