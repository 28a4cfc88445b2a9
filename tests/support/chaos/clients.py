"""The kinds of clients of a chaos run. Each function is one visit from connecting to leaving."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

from support.chaos.ledger import PATIENCE_S, Ledger, Plan
from support.chaos.plans import any_plan, healthy_plan
from support.chaos.visit import Visit
from support.raw_websocket import RawWebSocket, Refused

_SMALL_BUFFER: Final = 4096
_LARGE: Final = Plan("fake", "size=2000000", whole="x" * 2_000_000)


class World:
    """What all visits share: where the module and the upstream are, and the ledger."""

    def __init__(self, url: str, upstream: str, ledger: Ledger) -> None:
        self.url = url
        self.upstream = upstream
        self.ledger = ledger
        self.visits: set[Visit] = set()

    @contextlib.asynccontextmanager
    async def visit(self, who: str, rng: Random, receive_buffer: int | None = None) -> AsyncIterator[Visit]:
        """A connected client; it leaves as one should where it has not gone before."""
        visit = await Visit(self.ledger, who, rng, self.upstream).open(self.url, receive_buffer=receive_buffer)
        self.visits.add(visit)
        try:
            yield visit
            await visit.leave()
        finally:
            self.visits.discard(visit)
            visit.socket.abort()


Client = Callable[[World, str, Random], Coroutine[Any, Any, None]]


async def fast(world: World, who: str, rng: Random) -> None:
    """Loads, asks for many things at once, interrupts some."""
    async with world.visit(who, rng) as visit:
        plans = [any_plan(rng) for _ in range(rng.randint(1, 6))]
        for provider in sorted({plan.provider for plan in plans}):
            if not await visit.load(provider):
                return
        requests = [visit.generate(plan, stream=rng.random() < 0.7) for plan in plans]
        if rng.random() < 0.2:
            requests.append(visit.ask("interrupt"))
        requests.append(visit.ask(rng.choice(("get_models", "get_providers", "get_stats"))))
        await visit.ended(*requests)


async def slow(world: World, who: str, rng: Random) -> None:
    """Reads with pauses, through a small buffer, and must get everything."""
    async with world.visit(who, rng, _SMALL_BUFFER) as visit:
        if not await visit.load("fake"):
            return
        requests = [visit.generate(Plan("fake", "count=3000", whole="".join(f"{n} " for n in range(3000))))]
        for _ in range(10):
            visit.socket.pause()
            await asyncio.sleep(rng.uniform(0.0, 0.05))
            visit.socket.resume()
            await asyncio.sleep(0)
        await visit.ended(*requests)


async def stalled(world: World, who: str, rng: Random) -> None:
    """Stops reading for good: the module must let it go, and nobody else may notice."""
    async with world.visit(who, rng, _SMALL_BUFFER) as visit:
        if not await visit.load("fake"):
            return
        for _ in range(3):
            visit.generate(_LARGE)
        visit.socket.pause()
        await asyncio.sleep(rng.uniform(0.0, 4.0))
        visit.book.close(by_us=True)
        visit.book.hear = lambda message: None  # type: ignore[method-assign]
        visit.socket.resume()
        if rng.random() < 0.5:
            visit.vanish()


async def vanishing(world: World, who: str, rng: Random) -> None:
    """Is cut off somewhere: in the load, in the queue, in the stream."""
    async with world.visit(who, rng) as visit:
        plan = healthy_plan(rng)
        if rng.random() < 0.2:
            visit.ask("load", provider=plan.provider)
        elif await visit.load(plan.provider):
            request = visit.generate(plan)
            await visit.heard(request, rng.choice((0, 0, 1, 3)))
        visit.vanish()


async def half_open(world: World, who: str, rng: Random) -> None:
    """Begins a handshake, or a frame, and never ends it."""
    parts = urlsplit(world.url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        head = f"GET / HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n".encode()
        if rng.random() < 0.5:
            head += b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            head += b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            head += b"\x81\xfe\xff\xff" + bytes(rng.randint(0, 100))
        writer.write(head[: rng.randint(1, len(head))])
        await asyncio.sleep(rng.uniform(0.0, 2.0))
    finally:
        writer.transport.abort()


def _bad_messages(rng: Random) -> list[bytes]:
    deep = b"[" * rng.choice((900, 2000, 100_000))
    wrong = json.dumps({"type": "generate", "unique_request_id": 1.5, "params": None}).encode()
    return rng.sample(
        [b"", b"{", b"null", b"[1]", b'"x"', b"NaN", deep, b"\xef\xbb\xbf{}", wrong, b'{"type":7}', b'{"type":"exit"}'],
        k=5,
    )


async def malicious(world: World, who: str, rng: Random) -> None:
    """Tries doors, sends what is no message, floods."""
    doors = rng.choice(({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}))
    with contextlib.suppress(Refused):
        await RawWebSocket.connect(world.url, lambda message: None, doors)
        world.ledger.breach(f"S1/S2: {doors} was let in")
    async with world.visit(who, rng) as visit:
        bad = _bad_messages(rng)
        for message in bad:
            visit.socket.send(message)
        await visit.errors(len(bad))
        names = rng.sample(["../../etc", "/etc/passwd", "con", "", "a" * 300, "waifu_llm", "echo\0"], k=3)
        requests = [visit.ask("load", provider=name) for name in names]
        requests += [visit.ask("interrupt", target_request_id=f"not mine {n}") for n in range(200)]
        await visit.ended(*requests)
        if any(request.outcome == "SUCCESS" for request in requests[: len(names)]):
            world.ledger.breach(f"S12: one of {names} was loaded")
        if rng.random() < 0.1:
            visit.socket.send(b'"' + b"x" * (17 * 2**20))
            async with asyncio.timeout(PATIENCE_S):
                await visit.socket.closed


KINDS: Final[dict[str, tuple[int, Client]]] = {
    "fast": (10, fast),
    "slow": (3, slow),
    "stalled": (2, stalled),
    "vanishing": (4, vanishing),
    "half-open": (2, half_open),
    "malicious": (3, malicious),
}
