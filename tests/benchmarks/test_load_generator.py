"""The load generator counts everything that is wrong with an answer, so that a fast wrong one is no good figure."""

import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from benchmarks.load_generator import Client, clients
from benchmarks.pacing import Arrival, read_stamps, within
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

Message = dict[str, Any]
Answer = Callable[[str], Iterable[Message]]


def ack(name: str) -> Message:
    return {"type": "generate_ack", "unique_request_id": name}


def chunk(name: str, text: str = "hello") -> Message:
    return {"type": "generate_stream_chunk", "unique_request_id": name, "chunk": text}


def end(name: str, **fields: Any) -> Message:
    done = {"type": "generate_stream_done", "unique_request_id": name, "is_error": False, "error": "SUCCESS"}
    return done | fields


def _replies(kind: str, name: str, answer: Answer) -> Iterable[Message]:
    match kind:
        case "generate":
            return answer(name)
        case "load":
            done = {"is_error": True, "error": "AUTHORIZATION", "message": "the key is wrong"}
            return [
                {"type": "load_ack", "unique_request_id": name},
                {"type": "load_done", "unique_request_id": name, **done},
            ]
    return [{"type": f"{kind}_ack", "unique_request_id": name}]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[str]:
    """A module that answers every generation with these messages, and everything else as it should."""

    async def handle(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for frame in connection:
                asked = json.loads(frame)
                for reply in _replies(asked["type"], asked["unique_request_id"], answer):
                    await connection.send(json.dumps(reply))

    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "faults"),
    [
        (lambda name: [ack(name), chunk(name), end(name)], {}),
        (lambda name: [ack(name), chunk(name, "hel"), chunk(name, "lo"), end(name)], {}),
        (lambda name: [ack(name), end(name, type="generate_done", response="hello")], {}),
        (lambda name: [ack(name), chunk(name, "hell"), end(name)], {"text": 1}),
        (lambda name: [chunk(name), end(name)], {"acknowledgement": 1, "order": 1}),
        (lambda name: [ack(name), ack(name), chunk(name), end(name)], {"acknowledgement": 1}),
        (lambda name: [ack(name), chunk(name), end(name), end(name)], {"terminal": 1}),
        (lambda name: [chunk(name), ack(name), end(name)], {"order": 1}),
        (lambda name: [ack(name), chunk(name), chunk(name, ""), end(name)], {"order": 1}),
        (lambda name: [ack(name), chunk(name), end(name, is_error=True, error="TIMEOUT")], {"error": 1}),
        (lambda name: [ack(name), chunk(name), end(name), chunk("of-nobody")], {"stray": 1}),
        (lambda name: [ack(name), chunk(name), {"type": "other", "unique_request_id": name}, end(name)], {"stray": 1}),
    ],
)
async def test_whatever_is_wrong_is_counted(answer: Answer, faults: dict[str, int]) -> None:
    async with answering(answer) as url, clients(url, 1) as (client,):
        generation = client.generate("model", stream=True)
        found = await client.finished([generation])
        assert found + generation.faults("hello") == Counter(faults)


async def test_a_message_of_kilobytes_and_one_of_more_than_64_are_read_whole() -> None:
    sizes = (10, 125, 126, 65535, 65536, 300_000)

    def answer(name: str) -> list[Message]:
        return [ack(name), *(chunk(name, "x" * size) for size in sizes), end(name)]

    async with answering(answer) as url, clients(url, 1) as (client,):
        for size in sizes:
            generation = client.generate("model", stream=True, prompt="y" * size)
            assert not await client.finished([generation])
            assert [len(piece) for piece in generation.pieces] == list(sizes)


async def test_many_clients_have_requests_at_once_and_each_gets_its_own_answer() -> None:
    async with answering(lambda name: [ack(name), chunk(name, name), end(name)]) as url, clients(url, 60) as opened:
        asked = [(client, client.generate("model", stream=True)) for client in opened for _ in range(3)]
        for client, generation in asked:
            assert not await client.finished([generation]) + generation.faults(generation.id)


async def test_a_lost_connection_ends_every_wait_and_is_counted() -> None:
    async with answering(lambda name: [ack(name)]) as url:
        client = await Client.open(url)
        generation = client.generate("model", stream=True)
        await client.ask("interrupt", "interrupt_ack")
        client.close()
        assert await client.finished([generation]) + generation.faults("hello") == Counter(
            text=1, terminal=1, connection=1
        )
        with pytest.raises(ConnectionError):
            client.generate("model", stream=True)


async def test_a_load_that_fails_says_why() -> None:
    async with answering(lambda name: []) as url, clients(url, 1) as (client,):
        with pytest.raises(ConnectionError, match="openai could not be loaded: AUTHORIZATION: the key is wrong"):
            await client.load("openai", "a key")


async def test_who_speaks_no_websocket_is_an_error_of_the_connection(unused_tcp_port: int) -> None:
    with pytest.raises(OSError, match=r"refused|failed"):
        await Client.open(f"ws://127.0.0.1:{unused_tcp_port}")


def test_every_stamp_in_a_text_is_an_arrival_with_its_hop_and_its_lateness() -> None:
    assert list(read_stamps(2.0, "@1990000/500;@1999000/0;")) == [
        Arrival(1_990_000, 10.0, 10.5),
        Arrival(1_999_000, 1.0, 1.0),
    ]


def test_only_what_was_sent_while_all_streams_ran_is_measured() -> None:
    arrivals = [Arrival(sent, 1.0, 1.0) for sent in (999_999, 1_000_000, 2_000_000, 2_000_001)]
    assert [arrival.sent_us for arrival in within(arrivals, 1.0, 2.0)] == [1_000_000, 2_000_000]
