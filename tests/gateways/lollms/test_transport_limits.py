"""What a client may take up: of the service's time, of memory, of connections."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.socket_io import (
    SEPARATOR,
    FakeService,
    Polling,
    event,
    gateway,
    joined_websocket,
    raw_websocket,
    read,
)
from support.waiting import bounded
from uvicorn.protocols.utils import ClientDisconnected
from waifu_lollms.connections import Stall, WebSocket
from waifu_lollms.limits import Limits
from waifu_lollms.outgoing import Outgoing
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

MIB = 1024 * 1024


async def test_events_that_come_too_fast_are_answered_busy_and_dropped() -> None:
    service = FakeService()
    async with gateway(service, events_per_s=1) as address, joined_websocket(address) as websocket:
        for number in range(5):
            await websocket.send(f'42["n",{number}]')
        heard = [event(await read(websocket)) for _ in range(8)]
        names = [name for name, _ in heard]
        assert sorted(names) == ["busy"] * 3 + ["buzzy"] * 3 + ["echo"] * 2
        assert all("message" in payload for name, payload in heard if name != "echo")
    assert [told[2] for told in service.told if told[0] == "received"] == [(0,), (1,)]


async def test_one_clients_flood_is_not_anothers() -> None:
    service = FakeService()
    async with (
        gateway(service, events_per_s=1) as address,
        joined_websocket(address) as loud,
        joined_websocket(address) as calm,
    ):
        for _ in range(5):
            await loud.send('42["loud"]')
        await calm.send('42["calm"]')
        assert event(await read(calm))[0] == "echo"


@pytest.mark.parametrize(("limits", "fit"), [(Limits(inbox_events=2), 2), (Limits(inbox_bytes=100_000), 1)])
async def test_what_the_service_has_not_taken_yet_is_bounded(limits: Limits, fit: int) -> None:
    service = FakeService()
    service.gate.clear()
    async with gateway(service, limits) as address, joined_websocket(address) as websocket:
        text = "x" * 60_000
        await websocket.send('42["first"]')
        await service.until("received")
        for _ in range(4):
            await websocket.send(f'42["n","{text}"]')
        for _ in range(4 - fit):
            assert [event(await read(websocket))[0] for _ in range(2)] == ["buzzy", "busy"]
        service.gate.set()
        assert [event(await read(websocket))[0] for _ in range(1 + fit)] == ["echo"] * (1 + fit)


@pytest.mark.parametrize(("size", "passes"), [(999_000, True), (1_000_001, False)])
async def test_a_frame_is_a_megabyte_at_most(size: int, passes: bool) -> None:
    service = FakeService()
    async with gateway(service) as address, joined_websocket(address) as websocket:
        await service.next("connected")
        await websocket.send(f'42["x","{"y" * (size - 9)}"]')
        if passes:
            assert len((await service.next("received"))[1][0]) == size - 9
        else:
            await service.next("disconnected")
            with pytest.raises(ConnectionClosed) as closed:
                await read(websocket)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_payload_is_a_megabyte_at_most(chunked: bool) -> None:
    service = FakeService()
    async with gateway(service) as address, aiohttp.ClientSession() as http:
        polling = Polling(http, address)
        await polling.open()
        await service.next("connected")

        async def send(size: int) -> int:
            body = f'42["x","{"y" * (size - 9)}"]'.encode()

            async def parts() -> Any:
                for start in range(0, len(body), 100_000):
                    yield body[start : start + 100_000]

            async with http.post(polling.url, data=parts() if chunked else body) as response:
                return response.status

        assert await send(999_000) == 200
        await service.next("received")
        with contextlib.suppress(aiohttp.ClientError):
            assert await send(1_000_001) == 400
        await service.next("disconnected")


async def test_nothing_is_decompressed() -> None:
    async with (
        gateway(FakeService()) as address,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{address}/socket.io/?EIO=4&transport=websocket", compress=15) as websocket,
    ):
        assert not websocket.compress


@asynccontextmanager
async def deaf_client(address: str) -> AsyncIterator[ClientConnection]:
    """A client that reads a frame or two ahead of its test, with as little room in its own buffers as can be."""
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    own.setblocking(False)
    await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", urlsplit(address).port))
    async with raw_websocket(address, sock=own, max_queue=1) as websocket:
        assert (await read(websocket)).startswith("0{")
        await websocket.send("40")
        assert (await read(websocket)).startswith("40{")
        try:
            yield websocket
        finally:
            websocket.transport.abort()


async def test_a_client_that_reads_nothing_is_disconnected_and_holds_up_nobody(no_leaks: None) -> None:
    service = FakeService()
    limits = Limits(room_bytes=64 * 1024, stall_s=0.2, leave_s=0)
    async with gateway(service, limits) as address, joined_websocket(address) as neighbour:
        await service.next("connected")
        async with deaf_client(address):
            (sid, _) = await service.next("connected")

            async def flood() -> None:
                while ("disconnected", sid) not in service.told:
                    await service.sends[sid]("text_chunk", {"chunk": "x" * 100_000})

            flooding = asyncio.create_task(flood())
            await neighbour.send('42["x"]')
            assert event(await read(neighbour))[0] == "echo"
            assert await service.until("disconnected") == (sid,)
            async with bounded():
                await flooding


async def test_a_client_that_reads_again_in_time_gets_everything(no_leaks: None) -> None:
    service = FakeService()
    async with gateway(service) as address, deaf_client(address) as slow:
        (sid, _) = await service.next("connected")
        chunks = [asyncio.create_task(service.sends[sid]("text_chunk", {"chunk": "x" * MIB})) for _ in range(7)]
        for _ in chunks:
            assert event(await read(slow)) == ("text_chunk", {"chunk": "x" * MIB})
        async with bounded():
            await asyncio.gather(*chunks)


async def test_a_poll_may_bring_a_lot_at_once(no_leaks: None) -> None:
    service = FakeService()
    async with gateway(service) as address, aiohttp.ClientSession() as http:
        polling = Polling(http, address)
        await polling.open()
        (sid, _) = await service.next("connected")
        assert (await polling.next()).startswith("40")
        chunks = [asyncio.create_task(service.sends[sid]("text_chunk", {"chunk": "x" * MIB})) for _ in range(7)]
        for _ in chunks:
            assert event(await polling.next())[0] == "text_chunk"
        async with bounded():
            await asyncio.gather(*chunks)


class HalfDeadTransport:
    """Its buffer holds what it is told to hold."""

    def __init__(self) -> None:
        self.left = 100
        self.aborted = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        return self.left

    def abort(self) -> None:
        self.aborted.set()


async def test_a_connection_is_cut_once_nothing_goes_out_of_it() -> None:
    transport: Any = HalfDeadTransport()
    stall = Stall(transport, 0.01)
    stall.begin()
    transport.left = 50
    async with bounded():
        await transport.aborted.wait()
    stall.end()


async def test_nothing_is_written_to_a_connection_that_is_gone() -> None:
    """asyncio writes a line to the log for each such message."""
    transport: Any = HalfDeadTransport()
    transport.is_closing = lambda: True
    websocket = WebSocket.__new__(WebSocket)
    websocket.transport = transport
    with pytest.raises(ClientDisconnected):
        await websocket.send({"type": "websocket.send", "text": "x"})


async def test_more_than_may_wait_for_a_client_disconnects_it_at_once(no_leaks: None) -> None:
    service = FakeService()
    limits = Limits(room_bytes=MIB, queued_bytes=2 * MIB)
    async with gateway(service, limits) as address, deaf_client(address):
        (sid, _) = await service.next("connected")
        sends = [service.sends[sid]("text_chunk", {"chunk": "x" * MIB}) for _ in range(20)]
        async with bounded():
            await asyncio.gather(*sends)
        assert await service.next("disconnected") == (sid,)


async def test_what_waits_for_a_polling_client_is_bounded_too() -> None:
    service = FakeService()
    async with gateway(service, Limits(stall_s=0.1)) as address, aiohttp.ClientSession() as http:
        polling = Polling(http, address)
        await polling.open()
        (sid, _) = await service.next("connected")
        async with bounded():
            while ("disconnected", sid) not in service.told:
                await service.sends[sid]("text_chunk", {"chunk": "x" * 100_000})


async def test_answers_that_nobody_reads_pile_up_for_nobody(no_leaks: None) -> None:
    service = FakeService()
    limits = Limits(room_bytes=16 * 1024, stall_s=0.2, leave_s=0)
    async with gateway(service, limits) as address, deaf_client(address) as deaf:
        (sid, _) = await service.next("connected")

        async def flood() -> None:
            while True:
                await deaf.send(f"40/{'x' * 10_000},")

        flooding = asyncio.create_task(flood())
        assert await service.next("disconnected") == (sid,)
        flooding.cancel()
        await asyncio.wait([flooding])


async def test_a_session_that_never_connects_ends(no_leaks: None) -> None:
    service = FakeService()
    async with gateway(service, Limits(connect_s=0.05)) as address, raw_websocket(address) as websocket:
        assert (await read(websocket)).startswith("0{")
        with pytest.raises(ConnectionClosed):
            while True:
                assert await read(websocket) == "1"
    assert service.told == [("closed",)]


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nx: "],
    ids=["nothing", "line", "header"],
)
async def test_a_request_that_does_not_come_to_its_end_is_cut(begun: bytes) -> None:
    async with gateway(FakeService(), Limits(head_s=0.1)) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(address).port)
        writer.write(begun)
        async with bounded():
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_body_that_does_not_come_to_its_end_leaves_the_session_alone() -> None:
    service = FakeService()
    async with gateway(service, Limits(body_s=0.1)) as address, aiohttp.ClientSession() as http:
        polling = Polling(http, address)
        await polling.open()
        parts = urlsplit(polling.url)
        reader, writer = await asyncio.open_connection("127.0.0.1", parts.port)
        head = f"POST {parts.path}?{parts.query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n42["
        writer.write(head.encode())
        async with bounded():
            assert b" 408 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
        assert (await polling.next()).startswith("40")
        await polling.post('42["x"]')
        assert event(await polling.next())[0] == "echo"


async def test_connections_are_bounded(no_leaks: None) -> None:
    async with gateway(FakeService(), Limits(), connections=1) as address:
        port = urlsplit(address).port
        open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(70)]
        async with bounded():
            done, waiting = await asyncio.wait(
                [asyncio.create_task(reader.read(1)) for reader, _ in open_ones], return_when=asyncio.FIRST_COMPLETED
            )
        assert done
        for task in waiting:
            task.cancel()
        await asyncio.wait([*done, *waiting])
        assert all(
            task.cancelled() or task.exception() is not None or task.result() == b"" for task in [*done, *waiting]
        )
        for _, writer in open_ones:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_a_queue_knows_what_waits_in_it() -> None:
    queue = Outgoing(room_bytes=1000)

    class Packet:
        data = "x" * 900

    assert await queue.has_room(0)
    queue.put_nowait(Packet())
    queue.put_nowait(None)
    assert not await queue.has_room(0.01)
    waiting = asyncio.create_task(queue.has_room(60))
    queue.get_nowait()
    async with bounded():
        assert await waiting
    queue.get_nowait()
    assert queue.waiting_bytes == 0
    queue.put_nowait(Packet())
    queue.release()
    queue.put_nowait(Packet())
    assert await queue.has_room(0)


PACKETS = (
    st.text(max_size=30)
    | st.builds("4{}".format, st.text(max_size=30))
    | st.builds("42{}".format, st.recursive(st.none() | st.text(max_size=5), st.lists, max_leaves=5).map(json.dumps))
    | st.builds("45{}-{}".format, st.integers(0, 12), st.just('["x",{"_placeholder":true,"num":0}]'))
    | st.sampled_from(["40", "41", "1", "2probe", "5", "3", "421[]", '42["connect"]', "40/x,", "43[]", "44", "46"])
)


async def test_no_packets_leave_anything_behind_or_trouble_a_neighbour(
    no_leaks: None, caplog: pytest.LogCaptureFixture
) -> None:
    service = FakeService()
    loop = asyncio.get_running_loop()
    limits = Limits(leave_s=0, connect_s=5)
    async with gateway(service, limits, events_per_s=100_000) as address, aiohttp.ClientSession() as http:

        async def over_websocket(frames: list[str | bytes]) -> None:
            with contextlib.suppress(ConnectionClosed):
                async with raw_websocket(address) as websocket:
                    for frame in frames:
                        await websocket.send(frame)

        async def over_polling(bodies: list[str]) -> None:
            polling = Polling(http, address)
            await polling.open()
            for body in bodies:
                await polling.post(*body.split(SEPARATOR))
            await polling.post("1")

        # hypothesis drives functions that are no coroutines; the loop goes on in this thread.
        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(st.lists(PACKETS | st.binary(max_size=10), max_size=6), st.lists(PACKETS, max_size=4))
        def fuzz(frames: list[str | bytes], bodies: list[str]) -> None:
            sendable = [text.encode("utf-8", "replace").decode() if isinstance(text, str) else text for text in frames]
            asyncio.run_coroutine_threadsafe(over_websocket(["40", *sendable]), loop).result(60)
            asyncio.run_coroutine_threadsafe(over_polling(bodies), loop).result(60)

        await asyncio.to_thread(fuzz)
        async with joined_websocket(address) as good:
            await good.send('42["still fine"]')
            assert event(await read(good))[1]["event"] == "still fine"
    connected = [told[1] for told in service.told if told[0] == "connected"]
    assert sorted(connected) == sorted(told[1] for told in service.told if told[0] == "disconnected")
    assert len(connected) == len(set(connected))
    assert not [record for record in caplog.records if record.exc_info], caplog.text
