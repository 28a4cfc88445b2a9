"""What one turn of the loop reads of a client: little, however much it sends, so that others need not wait."""

import asyncio
import json

import pytest
from support.peer import connected
from support.raw_websocket import RawWebSocket
from support.serving import serving
from support.waiting import until

from waifu_llm.server import arrivals, connection
from waifu_llm.server.arrivals import Arriving
from waifu_llm.server.connection import Connection


async def test_a_large_message_is_read_in_parts_and_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[int] = []
    updated = Arriving.buffer_updated

    def watched(self: Arriving, nbytes: int) -> None:
        parts.append(nbytes)
        updated(self, nbytes)

    monkeypatch.setattr(Arriving, "buffer_updated", watched)
    async with serving() as running, connected(running.url) as peer:
        await peer.say("get_providers", pad="x" * 1_000_000)
        await peer.hear_types("get_providers_done")
    assert sum(parts) > 1_000_000
    assert max(parts) <= arrivals.MOST_READ_BYTES


async def test_what_others_read_meanwhile_is_not_mixed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """All connections read into one buffer; here it is so small that no message is in it whole."""
    monkeypatch.setattr(arrivals, "MOST_READ_BYTES", 7)
    async with serving() as running, connected(running.url) as one, connected(running.url) as other:
        for number in range(20):
            await one.say("get_providers", f"one {number}", pad="1" * number)
            await other.say("get_providers", f"other {number}", pad="2" * number)
        for number in range(20):
            assert (await one.hear())["unique_request_id"] == f"one {number}"
            assert (await other.hear())["unique_request_id"] == f"other {number}"


async def test_a_few_messages_are_heard_in_a_turn_of_the_loop_however_many_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = [0]
    receive, loop = Connection._receive, asyncio.get_running_loop()

    def watched(self: Connection, data: str | bytes) -> None:
        heard[-1] += 1
        receive(self, data)

    def turn() -> None:
        if sum(heard) < 200:
            heard.append(0)
            loop.call_soon(turn)

    monkeypatch.setattr(Connection, "_receive", watched)
    async with serving() as running:
        answers: list[object] = []
        raw = await RawWebSocket.connect(running.url, answers.append)
        turn()
        for number in range(200):
            raw.send(json.dumps({"type": "interrupt", "unique_request_id": number}).encode())
        await until(lambda: len(answers) == 200, "all are answered")
        raw.abort()
    assert 1 < max(heard) <= connection._READ_IN_ONE_GO
