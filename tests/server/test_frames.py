"""Our own text frames: judged by the library's client, between its own pings, pongs and closes."""

import asyncio
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from support.waiting import bounded
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, SERVER, Protocol, State

from waifu_llm.server.frames import is_open, text_frames, write_texts

Handler = Callable[[ServerConnection], Awaitable[None]]
LENGTHS = (0, 1, 125, 126, 127, 511, 512, 65535, 65536, 200_000)


@asynccontextmanager
async def talking(handler: Handler, max_size: int | None = None) -> AsyncIterator[ClientConnection]:
    async with bounded(), serve(handler, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=max_size) as client:
            yield client


def parsed(data: bytes) -> list[tuple[Opcode, bytes, bool]]:
    """What the library's own reader makes of what a server sent; masked or broken frames end it."""
    protocol = Protocol(CLIENT, state=State.OPEN, max_size=None)
    protocol.receive_data(data)
    assert protocol.parser_exc is None
    frames = [event for event in protocol.events_received() if isinstance(event, Frame)]
    return [(frame.opcode, bytes(frame.data), frame.fin) for frame in frames]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_frame_of_any_length_is_one_text_frame_without_a_mask(length: int) -> None:
    message = b"x" * length
    data = b"".join(text_frames([message]))
    assert data[0] == 0x81
    assert data[1] & 0x80 == 0
    assert parsed(data) == [(Opcode.TEXT, message, True)]


def test_the_frames_are_those_of_the_library() -> None:
    for length in LENGTHS:
        protocol = Protocol(SERVER, state=State.OPEN)
        protocol.send_text(b"x" * length)
        assert b"".join(text_frames([b"x" * length])) == b"".join(protocol.data_to_send())


async def test_many_messages_are_one_write_and_arrive_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [b"%d " % length + b"\xc3\xa9" * (length // 2) for length in LENGTHS]
    writes: list[int] = []

    async def handler(socket: ServerConnection) -> None:
        write = socket.transport.write

        def counted(data: bytes) -> None:
            writes.append(len(data))
            write(data)

        monkeypatch.setattr(socket.transport, "write", counted)
        write_texts(socket, messages)
        await socket.wait_closed()

    async with talking(handler) as client:
        assert [await client.recv() for _ in messages] == [message.decode() for message in messages]
    assert len(writes) >= 1
    assert writes[0] == sum(map(len, text_frames(messages)))


async def test_between_pings_pongs_and_the_librarys_own_messages_nothing_is_torn() -> None:
    async def handler(socket: ServerConnection) -> None:
        async for number in socket:
            await socket.ping()
            assert isinstance(number, str)
            write_texts(socket, [f"{number} a".encode(), b"x" * 70_000])
            await socket.send(f"{number} b")
            write_texts(socket, [f"{number} c".encode()])
            await socket.drain()

    async with talking(handler) as client:
        for number in range(50):
            pong = await client.ping()
            await client.send(str(number))
            assert [await client.recv() for _ in "abcd"] == [f"{number} a", "x" * 70_000, f"{number} b", f"{number} c"]
            await pong


async def test_what_is_written_before_a_close_arrives_and_then_it_is_not_open_any_more() -> None:
    open_after: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def handler(socket: ServerConnection) -> None:
        assert is_open(socket)
        write_texts(socket, [b"last words"])
        closing = asyncio.ensure_future(socket.close(1000, "enough"))
        await asyncio.sleep(0)
        open_after.set_result(is_open(socket))
        await closing

    async with talking(handler) as client:
        heard = [message async for message in client]
        assert heard == ["last words"]
        assert (client.close_code, client.close_reason) == (1000, "enough")
        assert not await open_after


async def test_a_client_that_does_not_read_holds_the_drain_until_it_does() -> None:
    written, drained = asyncio.Event(), asyncio.Event()

    async def handler(socket: ServerConnection) -> None:
        # More than the system's buffers take.
        while not socket.transport.get_write_buffer_size():
            write_texts(socket, [b"x" * 100_000])
        write_texts(socket, [b"x" * 100_000])
        waiting = asyncio.ensure_future(socket.drain())
        await asyncio.sleep(0)
        assert not waiting.done(), "the client has read nothing"
        written.set()
        await waiting
        drained.set()
        write_texts(socket, [b"end"])
        await socket.wait_closed()

    async with talking(handler) as client:
        client.transport.pause_reading()
        await written.wait()
        client.transport.resume_reading()
        async for message in client:
            if message == "end":
                break
        assert drained.is_set()


def test_the_library_is_kept_below_the_version_that_nobody_has_looked_at() -> None:
    """What `frames` uses is public, but a new major version may change it: look at it again, then raise this."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    needs = {need.name: need for need in map(Requirement, project["project"]["dependencies"])}
    assert not needs["websockets"].specifier.contains(Version("18.0"))
