"""P14: slow, half-open and cut clients through a proxy on which things go wrong, beside one that never waits."""

import asyncio
import contextlib
import random

import pytest
from support.fake_pool import FakeGeneration, FakeLoaded
from support.peer import Peer, connected
from support.proxy import Proxy, proxied
from support.serving import Serving, serving
from support.waiting import bounded
from websockets.exceptions import ConnectionClosed

from waifu_llm.config import LimitSettings

LIMIT = 500_000
PIECE = "x" * 20_000
RUNS = 20


async def hear_all(peer: Peer) -> str:
    """The text of its stream, as far as it came."""
    text = ""
    with contextlib.suppress(ConnectionClosed):
        while (reply := await peer.hear())["type"] == "generate_stream_chunk":
            text += reply["chunk"]
    return text


async def one_client(running: Serving, dice: random.Random, generations: "asyncio.Queue[FakeGeneration]") -> None:
    """A stream through a proxy that holds back, swallows or cuts at some chunk."""
    what = dice.choice(("hold and go on", "hold for ever", "swallow", "cut", "leave"))
    at = dice.randrange(1, 20)
    async with (
        proxied(running.host, running.port) as proxy,
        connected(proxy.url, max_size=None, close_timeout=0.01) as peer,
    ):
        await peer.generate(f"{what}")
        generation = await generations.get()
        hearing = asyncio.create_task(hear_all(peer))
        sent = ""
        while not generation.cancelled.is_set() and len(sent) < (40_000_000 if what == "hold for ever" else 600_000):
            if len(sent) // len(PIECE) == at:
                disturb(what, proxy, peer)
            generation.chunk(PIECE)
            sent += PIECE
            await asyncio.sleep(0)
        proxy.let_pass()
        if what in ("hold and go on", "swallow"):
            generation.end()
            async with bounded():
                assert await hearing == sent
        else:
            async with bounded():
                await generation.cancelled.wait()
            proxy.cut()
            assert sent.startswith(await hearing)


def disturb(what: str, proxy: Proxy, peer: Peer) -> None:
    match what:
        case "hold and go on" | "hold for ever":
            proxy.hold_back_what_the_server_says()
        case "swallow":
            proxy.swallow_what_the_client_says()
        case "cut":
            proxy.cut()
        case _:
            peer.socket.transport.abort()


@pytest.mark.parametrize("seed", [0])
async def test_p14_twenty_clients_behind_a_bad_line_disturb_nobody_and_leave_nothing(
    seed: int, no_leaks: None, caplog: pytest.LogCaptureFixture
) -> None:
    await chaos(seed)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1, 51))
async def test_p14_a_thousand_clients_behind_a_bad_line_disturb_nobody(seed: int, no_leaks: None) -> None:
    await chaos(seed)


async def chaos(seed: int) -> None:
    dice = random.Random(seed)
    limits = LimitSettings(pending_bytes=LIMIT, stall_s=1000)
    async with serving(limits=limits) as running, connected(running.url) as neighbour:
        running.pool.last = FakeLoaded("echo")
        await neighbour.generate("neighbour")
        theirs = await running.pool.generations.get()
        for _ in range(RUNS):
            client = asyncio.create_task(one_client(running, dice, running.pool.generations))
            while not client.done():
                theirs.chunk("y")
                (chunk,) = await neighbour.hear_types("generate_stream_chunk")
                assert set(chunk["chunk"]) == {"y"}
            await client
        theirs.end()
        await neighbour.hear_types("generate_stream_done")
