"""Rows C9 to C12, C17 and C18: clients that are gone, slow, many, or never say what they want."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.fake_pool import FakeGeneration, FakeLoaded
from support.peer import PARAMS, USER, Peer, connected
from support.proxy import proxied
from support.raw_frames import RawSocket, raw_socket, raw_websocket, request
from support.serving import Serving, serving
from support.waiting import bounded, until
from websockets.asyncio.server import ServerConnection

from waifu_llm.config import LimitSettings, ServerSettings
from waifu_llm.module import _set_limits
from waifu_llm.server.arrivals import MOST_HEADER_BYTES, Room
from waifu_llm.server.server import Timing

TOKEN = "a-token-of-some-length"
WITH_TOKEN: dict[str, Any] = {"additional_headers": {"Authorization": f"Bearer {TOKEN}"}}
# This machine by a name that the doors do not know for loopback: clients of a server there may be anywhere.
ELSEWHERE = ServerSettings(host="127.1")
QUICK = Timing(open_s=0.05, ping_every_s=0.02, ping_answer_s=0.05)


async def generation_of(running: Serving, peer: Peer, **fields: Any) -> FakeGeneration:
    running.pool.last = FakeLoaded("echo")
    await peer.load()
    await peer.generate("g", **fields)
    async with bounded():
        return await running.pool.generations.get()


async def load_at_once(running: Serving) -> None:
    (await running.pool.loads.get()).succeed()


async def alive(peer: Peer) -> None:
    await peer.say("get_providers", "still here")
    await peer.hear_types("get_providers_done")


# C9.


async def test_c9_off_loopback_a_client_that_fell_silent_is_given_up_and_what_it_ran_is_cancelled() -> None:
    async with (
        serving(server=ELSEWHERE, token=TOKEN, timing=QUICK) as running,
        proxied("127.0.0.1", running.port) as proxy,
        connected(proxy.url, **WITH_TOKEN) as peer,
        connected(f"ws://127.0.0.1:{running.port}", **WITH_TOKEN) as neighbour,
    ):
        loading = asyncio.create_task(load_at_once(running))
        generation = await generation_of(running, peer)
        await loading
        generation.chunk("so far")
        await peer.hear_types("generate_stream_chunk")
        proxy.swallow_what_the_client_says()
        async with bounded():
            await generation.cancelled.wait()
        assert await peer.closed() == 1011
        await until(lambda: generation.connection in running.pool.released, "the pool is told")
        await alive(neighbour)


async def test_c9_off_loopback_a_client_that_answers_pings_stays() -> None:
    async with (
        serving(server=ELSEWHERE, token=TOKEN, timing=QUICK) as running,
        connected(f"ws://127.0.0.1:{running.port}", **WITH_TOKEN) as peer,
    ):
        connection = only_socket(running)
        for _ in range(5):
            await until(lambda: bool(connection.pending_pings), "it is asked whether it is there")
            await until(lambda: not connection.pending_pings, "it has answered")
        await alive(peer)


async def test_c9_off_loopback_the_published_times_are_20_and_60_seconds() -> None:
    async with (
        serving(server=ELSEWHERE, token=TOKEN) as running,
        connected(f"ws://127.0.0.1:{running.port}", **WITH_TOKEN),
    ):
        connection = only_socket(running)
        assert (connection.ping_interval, connection.ping_timeout) == (20.0, 60.0)


async def test_c9_on_loopback_nobody_is_asked_whether_it_is_there() -> None:
    async with serving(timing=QUICK) as running, connected(running.url):
        assert only_socket(running).ping_interval is None


def only_socket(running: Serving) -> ServerConnection:
    (connection,) = next(iter(running.server._servers)).connections
    return connection


# C10.


async def test_c10_twenty_clients_that_read_nothing_take_bounded_memory_and_no_time_of_their_neighbour() -> None:
    limits = LimitSettings(pending_bytes=1_000_000)
    process = psutil.Process()
    async with serving(limits=limits) as running, connected(running.url) as neighbour:
        running.pool.last = FakeLoaded("echo")
        await neighbour.generate("n")
        theirs = await running.pool.generations.get()
        async with asyncio.TaskGroup() as group:
            stalled = [group.create_task(stall(running)) for _ in range(20)]
        generations = [await running.pool.generations.get() for _ in stalled]
        before = process.memory_info().rss
        grown = 0
        while not all(generation.cancelled.is_set() for generation in generations):
            for generation in generations:
                if not generation.cancelled.is_set():
                    generation.chunk("x" * 100_000)
            theirs.chunk("y")
            (chunk,) = await neighbour.hear_types("generate_stream_chunk")
            assert set(chunk["chunk"]) == {"y"}
            grown = max(grown, process.memory_info().rss - before)
        # What waits, what is being written, and the sockets' own buffers, of twenty.
        assert grown < 20 * 6_000_000
        for raw in stalled:
            raw.result().reset()


async def stall(running: Serving) -> RawSocket:
    """A client that asks for a stream and reads no more; the test resets it."""
    reader, writer = await asyncio.open_connection(running.host, running.port, limit=2**14)
    raw = RawSocket(reader, writer)
    raw.send(request("Host: localhost"))
    assert await raw.status() == 101
    raw.say("generate", messages=USER, params=PARAMS, stream=True)
    return raw


async def test_c10_one_that_reads_on_however_slowly_is_no_stalled_one() -> None:
    """The looks, of which there is one in 30 s, are the test's: each finds that something was read since the last."""
    limits = LimitSettings(stall_s=3600, pending_bytes=64 * 1024 * 1024)
    async with serving(limits=limits) as running, slowly(running) as slow:
        running.pool.last = FakeLoaded("echo")
        slow.say("generate", messages=USER, params=PARAMS, stream=True)
        generation = await running.pool.generations.get()
        for _ in range(400):
            generation.chunk("x" * 50_000)
        (connection,) = running.server._connections
        writer = connection._writer
        await until(lambda: writer._watch is not None, "it is watched")
        for _ in range(4):
            before = writer._progress()
            async with bounded():
                await slow.reader.readexactly(3_000_000)
            await until(lambda before=before: writer._progress() > before, "that is seen")  # type: ignore[misc]
            writer._check_progress(before)
            assert not writer.ending
        writer._check_progress(writer._progress())
        assert writer.ending
        async with bounded():
            await generation.cancelled.wait()


@contextlib.asynccontextmanager
async def slowly(running: Serving) -> AsyncIterator[RawSocket]:
    """A client whose socket holds little of what it has not read yet."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (running.host, running.port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=2**14)
    client = RawSocket(reader, writer)
    client.send(request("Host: localhost"))
    assert await client.status() == 101
    yield client
    client.reset()


# C11, C12.


@pytest.mark.parametrize("chunks", [0, 1, 50])
async def test_c11_a_socket_that_is_cut_at_any_chunk_cancels_its_generation_without_a_word(
    chunks: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as running, connected(running.url) as neighbour:
        running.pool.last = FakeLoaded("echo")
        async with raw_websocket(running.host, running.port) as raw:
            raw.say("generate", messages=USER, params=PARAMS, stream=True)
            await raw.hear_reply()
            generation = await running.pool.generations.get()
            for n in range(chunks):
                generation.chunk(f"{n} ")
                assert (await raw.hear_reply())["chunk"] == f"{n} "
            raw.reset()
            async with bounded():
                await generation.cancelled.wait()
        generation.chunk("late")
        await until(lambda: running.pool.released == [generation.connection], "the pool is told")
        await alive(neighbour)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_c12_who_leaves_in_a_load_stops_waiting_and_the_others_get_theirs() -> None:
    async with serving() as running, connected(running.url) as stays:
        async with connected(running.url) as leaves:
            for peer in (leaves, stays):
                await peer.say("load", "l", provider="echo")
                await peer.hear_types("load_ack")
            first, second = [await running.pool.loads.get() for _ in range(2)]
        async with bounded():
            await first.cancelled.wait()
        second.succeed()
        (done,) = await stays.hear_types("load_done")
        assert (done["error"], second.cancelled.is_set()) == ("SUCCESS", False)


# C17.


async def test_c17_sockets_that_say_nothing_are_let_go_and_those_inside_go_on() -> None:
    async with serving(timing=QUICK) as running, connected(running.url) as inside:
        async with raw_socket(running.host, running.port) as silent, raw_socket(running.host, running.port) as slow:
            slow.send(request("Host: localhost")[:20])
            assert await silent.over() == b""
            assert await slow.over() == b""
        await alive(inside)


async def test_c17_sockets_that_begin_no_tls_are_let_go_as_well() -> None:
    certificate = str(Path(__file__).parents[2] / "server" / "data" / "localhost.pem")
    settings = ServerSettings(tls_cert=certificate, tls_key=certificate)
    async with (
        serving(server=settings, timing=QUICK) as running,
        raw_socket(running.host, running.port) as silent,
        raw_socket(running.host, running.port) as plain,
    ):
        plain.send(request("Host: localhost"))
        assert await silent.over() == b""
        assert b"HTTP" not in await plain.over()


async def test_c17_a_thousand_silent_sockets_do_not_keep_out_who_says_what_it_wants() -> None:
    limits = LimitSettings(connections=10)
    async with serving(limits=limits) as running, connected(running.url) as inside:
        silent = [await asyncio.open_connection(running.host, running.port) for _ in range(200)]
        await until(lambda: len(running.server._arrivals) == 10, "the limit is reached")
        async with connected(running.url) as newcomer:
            await alive(newcomer)
        await alive(inside)
        # The oldest have their answer; the youngest may still speak.
        async with bounded():
            assert b" 503 " in await silent[0][0].read()
        assert not silent[-1][0].at_eof()
        for _, writer in silent:
            writer.transport.abort()
        await until(lambda: len(running.server._arrivals) == 0, "those that left are not counted")


async def test_c17_two_thousand_connections_are_inside_and_one_more_gets_503() -> None:
    _set_limits()
    room = Room.of(LimitSettings().connections)
    assert room.clients == 2000
    async with serving() as running:
        inside = []
        for first in range(0, room.clients, 250):
            async with asyncio.TaskGroup() as group:
                inside += [group.create_task(enter(running)) for _ in range(min(250, room.clients - first))]
        async with raw_socket(running.host, running.port) as late:
            late.send(request("Host: localhost"))
            assert await late.status() == 503
        for task in (inside[0], inside[-1]):
            task.result().say("get_providers")
            assert (await task.result().hear_reply())["type"] == "get_providers_done"
        for task in inside:
            task.result().reset()
        await until(lambda: len(running.server._connections) == 0, "all have left")


async def enter(running: Serving) -> RawSocket:
    raw = RawSocket(*await asyncio.open_connection(running.host, running.port))
    raw.send(request("Host: localhost"))
    assert await raw.status() == 101
    return raw


async def test_c17_a_hundred_handshakes_in_one_moment_are_no_way_past_the_limit() -> None:
    async with serving(limits=LimitSettings(connections=100)) as running, connected(running.url) as inside:
        crowd = [RawSocket(*await asyncio.open_connection(running.host, running.port)) for _ in range(99)]
        await until(lambda: len(running.server._arrivals) == 99, "all of them are there")
        running.server._room = Room(10, 100)
        for raw in crowd:
            raw.send(request("Host: localhost"))
        statuses = [await raw.status() for raw in crowd]
        assert (statuses.count(101), statuses.count(503)) == (9, 90)
        await alive(inside)
        for raw in crowd:
            raw.reset()


def test_c17_where_few_files_may_be_open_clients_leave_some_for_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for files in (64, 256, 1024, 65536):
        monkeypatch.setattr("waifu_llm.server.arrivals._most_files", lambda files=files: files)
        room = Room.of(2000)
        assert 0 < room.arriving <= 2000
        assert 0 < room.clients <= 2000
        assert room.clients + room.arriving <= files - min(256, files // 2)
    assert room == Room(2000, 2000)


# C18.


async def answer(running: Serving, head: bytes) -> int:
    async with raw_socket(running.host, running.port) as raw:
        raw.send(head)
        return await raw.status()


async def test_c18_long_lines_and_many_headers_are_refused_at_their_limits() -> None:
    line, host = 8192, "Host: localhost"
    async with serving() as running, connected(running.url) as inside:
        assert await answer(running, request(host, "X: " + "x" * (line - 5))) == 101
        assert await answer(running, request(host, "X: " + "x" * line)) in (400, 431)
        target = "/" + "x" * (line - len("GET / HTTP/1.1\r\n"))
        assert await answer(running, request(host, target=target)) == 101
        assert await answer(running, request(host, target=target + "xx")) in (400, 414)
        free = 128 - 5
        assert await answer(running, request(host, *[f"X{n}: x" for n in range(free)])) == 101
        assert await answer(running, request(host, *[f"X{n}: x" for n in range(free + 1)])) in (400, 431)
        await alive(inside)


async def test_c18_many_long_headers_are_cut_before_they_take_a_megabyte() -> None:
    async with serving() as running, raw_socket(running.host, running.port) as raw:
        raw.send(request("Host: localhost", *[f"X{n}: {'x' * 8000}" for n in range(100)])[:-4])
        assert await raw.status() == 431
        await raw.over()
        fits = MOST_HEADER_BYTES // 8192 - 1
        assert await answer(running, request("Host: localhost", *[f"X{n}: {'x' * 8000}" for n in range(fits)])) == 101


async def test_c18_what_is_no_http_is_let_go_without_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    heads = [
        b"\r\n\r\n",
        b"GET /\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        request("Host: localhost", "Sec-WebSocket-Key: short"),
        request("Host: localhost", "Transfer-Encoding: chunked"),
    ]
    async with serving() as running, connected(running.url) as inside:
        for head in heads:
            async with raw_socket(running.host, running.port) as raw:
                raw.send(head)
                raw.writer.write_eof()
                assert b" 101 " not in await raw.over()
        await alive(inside)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
