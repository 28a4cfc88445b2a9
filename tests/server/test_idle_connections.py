"""What a connection that does nothing keeps. What that weighs is measured by `scripts/load.py`."""

import asyncio
import gc
from collections import Counter

from support.peer import connected
from support.raw_frames import RawSocket, request
from support.serving import Serving, serving

TOKEN = "a token of thirty-two characters"


async def test_headers_are_forgotten_once_a_client_is_in() -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Long": "x" * 5000}
    async with serving(token=TOKEN) as running, connected(f"{running.url}/path", additional_headers=headers) as peer:
        await peer.say("get_providers")
        await peer.hear_types("get_providers_done")
        (socket,) = (connection._socket for connection in running.server._connections)
        assert socket.request is not None
        assert list(socket.request.headers.raw_items()) == []
        assert (socket.request.path, socket.response) == ("", None)


async def test_one_task_lives_for_an_idle_connection_and_what_it_was_asked_leaves_none() -> None:
    async with serving() as running, connected(running.url) as peer:
        before = len(asyncio.all_tasks())
        async with connected(running.url, ping_interval=None) as other:
            await peer.say("get_providers")
            await peer.hear_types("get_providers_done")
            await other.say("get_providers")
            await other.hear_types("get_providers_done")
            assert len(asyncio.all_tasks()) - before == 1


async def test_an_idle_connection_has_one_object_of_each_kind_that_it_needs() -> None:
    many = 50
    async with serving() as running:
        inside = [await enter(running) for _ in range(5)]
        before = _objects()
        inside += [await enter(running) for _ in range(many)]
        each = {name: round(count / many) for name, count in (_objects() - before).items() if count >= many // 2}
        # What the client of each has, in this process too.
        for raw in inside:
            raw.reset()
    ours = {name: count for name, count in each.items() if name.startswith("waifu_")}
    assert set(ours.values()) == {1}
    assert {name.rpartition(".")[2] for name in ours} == {
        "Arriving", "Connection", "Outbox", "Replies", "Session", "Writer",
    }  # fmt: skip


async def enter(running: Serving) -> RawSocket:
    raw = RawSocket(*await asyncio.open_connection(running.host, running.port))
    raw.send(request("Host: localhost"))
    assert await raw.status() == 101
    return raw


def _objects() -> Counter[str]:
    gc.collect()
    return Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())
