"""What of HTTP no scenario of a fake service shows: connections that end between two requests."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from support.waiting import bounded

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
