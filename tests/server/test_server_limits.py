"""Sizes, slow clients, disconnects, and how the server ends."""

import asyncio
import contextlib
import json
import socket
import struct
from typing import Any

import pytest
import websockets
from support.fake_pool import FakeGeneration, FakeLoaded
from support.peer import PARAMS, USER, Peer, connected
from support.serving import Serving, serving
from support.waiting import bounded, until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from waifu_llm.config import LimitSettings, ServerSettings

LIMIT = 1000


def sized(size: int) -> str:
    """A request of exactly that many bytes."""
    frame = json.dumps({"type": "get_providers", "unique_request_id": "1", "pad": ""})
    return frame.replace('"pad": ""', f'"pad": "{"x" * (size - len(frame))}"')


@contextlib.asynccontextmanager
async def small() -> Any:
    async with serving(limits=LimitSettings(message_bytes=LIMIT)) as running, connected(running.url) as peer:
        yield peer


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT])
async def test_a_message_up_to_the_limit_is_read(size: int) -> None:
    async with small() as peer:
        await peer.socket.send(sized(size))
        await peer.hear_types("get_providers_done")


@pytest.mark.parametrize(
    "frame",
    [
        sized(LIMIT + 1),
        sized(LIMIT * 2),
        sized(LIMIT + 1).encode(),
        sized(LIMIT - 100).replace("xxx", "é€x"),
        [sized(LIMIT + 1)[:500], sized(LIMIT + 1)[500:]],
    ],
)
async def test_a_message_over_the_limit_gets_an_error_and_then_1009(frame: Any) -> None:
    async with small() as peer:
        await peer.socket.send(frame)
        (error,) = await peer.hear_types("error")
        assert (error["unique_request_id"], error["error"]) == ("", "UNEXPECTED")
        assert str(LIMIT) in error["message"]
        assert await peer.closed() == 1009


async def test_characters_are_counted_as_the_bytes_they_are() -> None:
    async with small() as peer:
        await peer.socket.send(sized(LIMIT - 200).replace("xxx", "éxx", 100))
        await peer.hear_types("get_providers_done")


@pytest.mark.parametrize("frame", [sized(LIMIT * 2 + 1), [sized(LIMIT * 3)[:1500], sized(LIMIT * 3)[1500:]]])
async def test_a_message_over_twice_the_limit_is_1009_alone(frame: Any) -> None:
    async with small() as peer:
        with contextlib.suppress(ConnectionClosed):
            await peer.socket.send(frame)
        assert await peer.closed() == 1009


async def test_what_ran_is_told_before_a_too_big_message_ends_the_connection() -> None:
    async with serving(limits=LimitSettings(message_bytes=LIMIT)) as running, connected(running.url) as peer:
        running.pool.last = FakeLoaded("echo")
        await peer.generate("1")
        await peer.socket.send(sized(LIMIT + 1))
        (_, done) = await peer.hear_types("error", "generate_stream_done")
        assert done["error"] == "INTERRUPT"
        assert await peer.closed() == 1009


async def test_text_that_is_no_utf8_closes_with_1007() -> None:
    async with serving() as running, connected(running.url) as peer:
        await peer.socket.send(b'{"a": "\xff"}', text=True)
        assert await peer.closed() == 1007


async def test_a_ping_is_answered_and_none_is_sent_on_loopback() -> None:
    async with serving() as running, connected(running.url) as peer:
        async with bounded():
            await (await peer.socket.ping())
        (connection,) = next(iter(running.server._servers)).connections
        assert connection.ping_interval is None


# Disconnects.


async def _running_generation(running: Serving, peer: Peer, **fields: Any) -> FakeGeneration:
    running.pool.last = FakeLoaded("echo")
    await peer.generate("1", **fields)
    async with bounded():
        return await running.pool.generations.get()


async def test_a_disconnect_ends_all_that_the_client_was_running() -> None:
    async with serving() as running:
        async with connected(running.url) as peer:
            generation = await _running_generation(running, peer)
            await peer.say("load", "l", provider="echo")
            await peer.hear_types("load_ack")
            load = await running.pool.loads.get()
        async with bounded():
            await generation.cancelled.wait()
            await load.cancelled.wait()
        await until(lambda: running.pool.released == [generation.connection], "the pool is told")


async def test_a_socket_that_is_cut_in_a_stream_cancels_it_without_a_word_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as running, connected(running.url) as peer, connected(running.url) as neighbour:
        generation = await _running_generation(running, peer)
        generation.chunk("a")
        await peer.hear_types("generate_stream_chunk")
        await neighbour.generate("2")
        theirs = await running.pool.generations.get()
        # A reset, not a goodbye.
        raw = peer.socket.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.socket.transport.abort()
        async with bounded():
            await generation.cancelled.wait()
        generation.chunk("late")
        theirs.chunk("still here")
        (chunk,) = await neighbour.hear_types("generate_stream_chunk")
        assert chunk["chunk"] == "still here"
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


# Clients that do not read.


class Deaf:
    """A client on a bare socket that asks for a stream and then reads nothing until it is told to."""

    def __init__(self, raw: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.raw, self.reader, self.writer = raw, reader, writer

    @classmethod
    async def connected(cls, running: Serving) -> "Deaf":
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, (running.host, running.port))
        reader, writer = await asyncio.open_connection(sock=raw, limit=2**14)
        lines = ["GET / HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
        writer.write("\r\n".join(lines).encode())
        async with bounded():
            await reader.readuntil(b"\r\n\r\n")
        return cls(raw, reader, writer)

    def say(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode()
        self.writer.write(b"\x81" + bytes([0x80 | 126]) + len(data).to_bytes(2, "big") + bytes(4) + data)

    async def rest(self) -> bytes:
        """All that still comes, to the end of the socket."""
        async with bounded():
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
        return b""

    def close(self) -> None:
        self.writer.transport.abort()


STREAM = {"type": "generate", "unique_request_id": "1", "messages": USER, "params": PARAMS, "stream": True}


async def test_a_client_that_does_not_read_is_disconnected_and_its_neighbours_never_wait() -> None:
    limits = LimitSettings(pending_bytes=1_000_000)
    async with serving(limits=limits) as running, connected(running.url) as neighbour:
        running.pool.last = FakeLoaded("echo")
        deaf = await Deaf.connected(running)
        deaf.say(STREAM)
        async with bounded():
            generation = await running.pool.generations.get()
        await neighbour.generate("2")
        theirs = await running.pool.generations.get()
        while not generation.cancelled.is_set():
            generation.chunk("x" * 50_000)
            theirs.chunk("y")
            (chunk,) = await neighbour.hear_types("generate_stream_chunk")
            assert set(chunk["chunk"]) == {"y"}
        deaf.close()


async def test_one_that_reads_again_in_time_finds_the_code_1013() -> None:
    limits = LimitSettings(pending_bytes=1_000_000)
    async with serving(limits=limits) as running:
        running.pool.last = FakeLoaded("echo")
        deaf = await Deaf.connected(running)
        deaf.say(STREAM)
        async with bounded():
            generation = await running.pool.generations.get()
        while not generation.cancelled.is_set():
            for _ in range(50):
                generation.chunk("x" * 50_000)
            await asyncio.sleep(0)
        end = await deaf.rest()
        close_frame = end[end.rindex(b"\x88") :]
        assert int.from_bytes(close_frame[2:4], "big") == 1013
        deaf.close()


async def test_a_client_that_leaves_in_a_flood_of_text_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as running, connected(running.url) as peer:
        generation = await _running_generation(running, peer)
        leaving = asyncio.create_task(peer.socket.close())
        async with bounded():
            while not generation.cancelled.is_set():
                generation.chunk("x" * 1000)
                await asyncio.sleep(0)
            await leaving
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_one_that_reads_nothing_for_too_long_is_cut_though_little_waits() -> None:
    limits = LimitSettings(stall_s=0.05)
    async with serving(limits=limits) as running:
        running.pool.last = FakeLoaded("echo")
        deaf = await Deaf.connected(running)
        deaf.say(STREAM)
        async with bounded():
            generation = await running.pool.generations.get()
        for _ in range(100):
            generation.chunk("x" * 50_000)
        async with bounded():
            await generation.cancelled.wait()
        deaf.close()


def texts(data: bytes) -> list[dict[str, Any]]:
    """The messages in what a server wrote."""
    found, at = [], 0
    while at < len(data):
        assert data[at] == 0x81
        size, at = data[at + 1], at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        found.append(json.loads(data[at : at + size]))
        at += size
    return found


async def test_a_client_that_falls_behind_gets_all_its_text_in_order_in_fewer_pieces() -> None:
    async with serving() as running:
        running.pool.last = FakeLoaded("echo")
        deaf = await Deaf.connected(running)
        deaf.say(STREAM)
        async with bounded():
            generation = await running.pool.generations.get()
        pieces = [f"{n} " * 200 for n in range(5000)]
        for n, piece in enumerate(pieces):
            generation.chunk(piece)
            if n % 50 == 0:
                await asyncio.sleep(0)
        generation.end()
        deaf.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        data = bytearray()
        async with bounded():
            while b"generate_stream_done" not in data[-1000:]:
                data += await deaf.reader.read(2**20)
        _, *chunks, done = texts(bytes(data))
        assert "".join(chunk["chunk"] for chunk in chunks) == "".join(pieces)
        assert len(chunks) < len(pieces)
        assert done["error"] == "SUCCESS"
        deaf.close()


# The end.


async def test_a_close_is_acknowledged_everybody_is_told_and_the_module_is_asked_to_stop() -> None:
    async with serving() as running, connected(running.url) as one, connected(running.url) as two:
        running.pool.last = FakeLoaded("echo")
        await one.generate("1")
        await two.generate("2", stream=False)
        await two.say("load", "3", provider="echo")
        await two.hear_types("load_ack")
        await one.say("close", "c")
        (_, done) = await one.hear_types("close_ack", "generate_stream_done")
        assert (done["error"], done["reason"]) == ("INTERRUPT", "closing")
        for reply in await two.hear_types("generate_done", "load_done"):
            assert (reply["error"], reply["reason"]) == ("INTERRUPT", "closing")
        async with bounded():
            await running.server.stop_requested.wait()
        await two.say("close", "d")
        await two.hear_types("close_ack")
        await two.say("generate", "e", messages=USER, params=PARAMS)
        (_, done) = await two.hear_types("generate_ack", "generate_done")
        assert done["reason"] == "closing"
        draining = asyncio.create_task(running.server.drain())
        assert await one.closed() == 1001
        assert await two.closed() == 1001
        async with bounded():
            await draining


async def test_what_is_written_at_the_end_arrives_before_the_socket_closes() -> None:
    async with serving() as running, connected(running.url) as peer:
        running.pool.last = FakeLoaded("echo")
        for i in range(50):
            await peer.generate(i)
        draining = asyncio.create_task(running.server.drain())
        dones = await peer.hear_types(*["generate_stream_done"] * 50)
        assert {done["error"] for done in dones} == {"INTERRUPT"}
        assert await peer.closed() == 1001
        async with bounded():
            await draining


async def test_a_module_that_drains_lets_nobody_in() -> None:
    async with serving() as running, connected(running.url) as peer:
        await peer.say("close", "c")
        await peer.hear_types("close_ack")
        async with connected(running.url) as late:
            await late.say("load", "1", provider="echo")
            (_, done) = await late.hear_types("load_ack", "load_done")
            assert done["reason"] == "closing"
            async with bounded():
                await running.server.drain()
        with pytest.raises((OSError, InvalidStatus, ConnectionClosed)):
            await connect(running.url)


async def test_a_client_that_does_not_answer_the_close_does_not_keep_the_module() -> None:
    async with serving() as running:
        deaf = await Deaf.connected(running)
        deaf.say({"type": "get_providers", "unique_request_id": "1"})
        # One that never even said what it wants.
        _, silent = await asyncio.open_connection(running.host, running.port)
        async with bounded():
            await running.server.drain()
            await running.server.drain()
        assert b"\x88" in await deaf.rest()
        deaf.close()
        silent.transport.abort()


async def test_a_client_that_does_not_read_does_not_keep_the_module_either() -> None:
    async with serving() as running:
        running.pool.last = FakeLoaded("echo")
        deaf = await Deaf.connected(running)
        deaf.say(STREAM)
        async with bounded():
            generation = await running.pool.generations.get()
        for _ in range(100):
            generation.chunk("x" * 50_000)
        async with bounded():
            await running.server.drain()
        assert generation.cancelled.is_set()
        assert generation.connection in running.pool.released
        deaf.close()


async def test_without_remote_close_only_the_connection_that_asked_ends() -> None:
    settings = ServerSettings(remote_close=False)
    async with serving(server=settings) as running, connected(running.url) as one, connected(running.url) as two:
        running.pool.last = FakeLoaded("echo")
        await one.generate("1")
        await one.say("close", "c")
        (_, done) = await one.hear_types("close_ack", "generate_stream_done")
        assert done["error"] == "INTERRUPT"
        assert await one.closed() == 1000
        await two.say("get_providers")
        await two.hear_types("get_providers_done")
        assert not running.server.stop_requested.is_set()


async def test_what_comes_after_the_close_of_a_connection_is_not_answered() -> None:
    async with serving(server=ServerSettings(remote_close=False)) as running, connected(running.url) as peer:
        for kind in ("close", "get_providers"):
            frame = {"type": kind, "unique_request_id": kind}
            peer.socket.protocol.send_text(json.dumps(frame).encode())
        peer.socket.transport.write(b"".join(peer.socket.protocol.data_to_send()))
        await peer.hear_types("close_ack")
        assert await peer.closed() == 1000


async def test_a_flood_of_frames_on_one_connection_leaves_the_others_their_turn() -> None:
    async with serving() as running, connected(running.url) as flooding, connected(running.url) as other:

        async def flood() -> None:
            for i in range(500):
                await flooding.say("get_providers", i)

        flooding_task = asyncio.create_task(flood())
        await other.say("get_providers", "x")
        await other.hear_types("get_providers_done")
        for i in range(500):
            assert (await flooding.hear())["unique_request_id"] == i
        await flooding_task


async def test_an_answer_larger_than_the_pending_limit_reaches_a_client_that_reads() -> None:
    limits = LimitSettings(pending_bytes=1_000_000)
    async with serving(limits=limits) as running, websockets.connect(running.url, max_size=None) as socket:
        running.pool.last = FakeLoaded("echo")
        await socket.send(json.dumps({**STREAM, "stream": False}))
        async with bounded():
            generation = await running.pool.generations.get()
            for _ in range(80):
                generation.chunk("x" * 50_000)
            generation.end()
            assert json.loads(await socket.recv())["type"] == "generate_ack"
            done = json.loads(await socket.recv())
        assert (done["is_error"], len(done["response"])) == (False, 4_000_000)
