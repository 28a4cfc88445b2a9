"""P9: anything through a real socket, message by message and frame by frame, over the real pool."""

import asyncio
import contextlib
import json
import random
import string
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from support.peer import PARAMS, USER
from support.pool_bench import Bench, MakeBench
from support.raw_frames import BINARY, CONTINUATION, PING, PONG, TEXT, RawSocket, frame, raw_websocket
from support.served_bench import Worker, over
from support.waiting import bounded, until

from waifu_llm.config import LimitSettings

KINDS: Final = ("load", "generate", "generate", "interrupt", "get_providers", "get_models", "unload", "get_stats", "no")
VALUES: Final[tuple[Any, ...]] = (None, "", "fake", 0, -1, 2**70, 1.5, True, [], {}, USER, PARAMS, "all", "\x00")
MORE_VALUES: Final[tuple[Any, ...]] = ("😀" * 50, "x" * 5000, [[]], {"a": {"b": [1]}}, "\u202e")
FIELDS: Final = ("provider", "messages", "prompt", "params", "stream", "target_request_id", "scope", "timeout_ms", "x")
PER_BATCH: Final = 250


def message(dice: random.Random, request_id: int) -> bytes:
    good = {"provider": "fake", "messages": USER, "params": PARAMS, "stream": dice.random() < 0.5}
    fields = (
        good
        if dice.random() < 0.5
        else {name: dice.choice(VALUES + MORE_VALUES) for name in FIELDS if dice.random() < 0.3}
    )
    return json.dumps({**fields, "type": dice.choice(KINDS), "unique_request_id": request_id}).encode()


def garbage(dice: random.Random) -> bytes:
    """No JSON, whatever it looks like: it has one brace too many, and is text."""
    text = bytearray(message(dice, 0))
    for _ in range(dice.randint(1, 5)):
        text[dice.randrange(len(text))] = ord(dice.choice(string.printable))
    return b"{" + bytes(text[: dice.randint(0, len(text))])


def framed(dice: random.Random, payload: bytes) -> bytes:
    """As one frame, or as several with something between them."""
    opcode = dice.choice((TEXT, TEXT, TEXT, BINARY))
    if dice.random() < 0.8 or not payload:
        return frame(opcode, payload)
    cuts = sorted(dice.randrange(len(payload) + 1) for _ in range(dice.randint(1, 4)))
    pieces = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    frames = []
    for n, piece in enumerate(pieces):
        frames.append(frame(CONTINUATION if n else opcode, piece, fin=n == len(pieces) - 1))
        if dice.random() < 0.3:
            frames.append(frame(dice.choice((PING, PONG)), dice.randbytes(dice.randrange(126))))
    return b"".join(frames)


@contextlib.asynccontextmanager
async def workers(bench: Bench) -> AsyncIterator[None]:
    """Each that is started answers everything."""
    started: list[Worker] = []

    async def start() -> None:
        while True:
            process = await bench.spawn._started.get()
            await asyncio.sleep(0)
            process.greet()
            started.append(Worker(process))
            started[-1].answering = True

    starting = asyncio.create_task(start())
    yield
    starting.cancel()
    for worker in started:
        worker.stop()


async def say_and_hear(raw: RawSocket, dice: random.Random, ids: range) -> Counter[Any]:
    """A batch in one write; how often each readable id was answered, once all of them were."""
    said = b""
    for request_id in ids:
        if dice.random() < 0.3:
            said += framed(dice, garbage(dice))
        said += framed(dice, message(dice, request_id))
    raw.send(said)
    answered: Counter[Any] = Counter()
    missing = set(ids)
    async with bounded():
        while missing:
            opcode, payload = await raw.hear()
            if opcode != TEXT:
                assert opcode == PONG
                continue
            reply = json.loads(payload)
            if reply["type"].endswith(("_done", "error", "interrupt_ack")):
                answered[reply["unique_request_id"]] += 1
                missing.discard(reply["unique_request_id"])
    return answered


async def fuzz(make_bench: MakeBench, seed: int, count: int) -> None:
    dice = random.Random(seed)
    bench = make_bench(limits=LimitSettings(running=20, queued=100))
    async with over(bench, LimitSettings(running=20, queued=100)) as url, workers(bench):
        host, port = url.removeprefix("ws://").split(":")
        answered: Counter[Any] = Counter()
        async with raw_websocket(host, int(port)) as raw:
            for first in range(0, count, PER_BATCH):
                ids = range(first, first + PER_BATCH)
                answered += await say_and_hear(raw, dice, ids)
                # Bytes that are no frames at all cost their own connection only.
                async with raw_websocket(host, int(port)) as other:
                    other.send(dice.randbytes(dice.randrange(1, 2000)))
            raw.say("get_stats", "last")
            opcode, payload = 0, b""
            while opcode != TEXT or json.loads(payload)["unique_request_id"] != "last":
                opcode, payload = await raw.hear()
                assert b"_done" not in payload or b'"last"' in payload
        assert {answered[request_id] for request_id in range(count)} == {1}
        await until(lambda: not bench.pool._runs, "nothing runs any more")


@pytest.mark.parametrize("seed", range(5))
async def test_p9_twenty_thousand_messages_get_one_end_each_and_leave_nothing_behind(
    make_bench: MakeBench, seed: int, no_leaks: None
) -> None:
    await fuzz(make_bench, seed, 4000)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 120))
async def test_p9_half_a_million_messages_get_one_end_each(make_bench: MakeBench, seed: int, no_leaks: None) -> None:
    await fuzz(make_bench, seed, 25_000)
