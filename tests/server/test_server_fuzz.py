"""Anything through a real socket: the server lives, and each readable id is answered exactly once."""

import json
import random
from collections import Counter
from typing import Any

from support.fake_pool import FakePool
from support.peer import PARAMS, USER, connected
from support.serving import serving

KINDS = ("load", "generate", "interrupt", "get_providers", "get_models", "unload", "get_stats", "nonsense")
VALUES: tuple[Any, ...] = (None, "", "echo", 0, -1, 2**70, 1.5, True, [], {}, USER, PARAMS, "all", "\x00", "😀" * 50)
FIELDS = ("provider", "api_key", "messages", "prompt", "params", "stream", "target_request_id", "scope", "timeout_ms")
TERMINAL = ("_done", "error", "interrupt_ack")
COUNT = 1500


def frame(dice: random.Random, request_id: int) -> str:
    good = {"provider": "echo", "messages": USER, "params": PARAMS, "stream": dice.random() < 0.5}
    fields = good if dice.random() < 0.5 else {name: dice.choice(VALUES) for name in FIELDS if dice.random() < 0.3}
    return json.dumps({**fields, "type": dice.choice(KINDS), "unique_request_id": request_id})


def garbage(dice: random.Random) -> bytes:
    text = bytearray(frame(dice, 0).encode())
    for _ in range(dice.randint(1, 5)):
        text[dice.randrange(len(text))] = dice.randrange(256)
    return bytes(text[: dice.randint(0, len(text))])


async def test_each_readable_id_is_answered_exactly_once_whatever_else_comes() -> None:
    dice = random.Random(7562)
    async with serving(FakePool(by_itself=True)) as running, connected(running.url) as peer:
        for first in range(0, COUNT, 50):
            answered: Counter[Any] = Counter()
            for request_id in range(first, first + 50):
                if dice.random() < 0.3:
                    # Cut short in any case, so that it cannot hold an id that counts.
                    await peer.socket.send(b"{" + garbage(dice))
                await peer.socket.send(frame(dice, request_id))
            while len([i for i in answered if isinstance(i, int) and i >= first]) < 50:
                reply = await peer.hear()
                if reply["type"].endswith(TERMINAL):
                    answered[reply["unique_request_id"]] += 1
            counts = {count for i, count in answered.items() if isinstance(i, int) and i >= first}
            assert counts == {1}
        await peer.say("get_providers", "still here")
        (done,) = await peer.hear_types("get_providers_done")
        assert done["unique_request_id"] == "still here"
