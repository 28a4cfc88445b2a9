"""A neighbour of whoever makes the load, as a process of its own so that only the module can delay it.

`python -m support.load.neighbour URL` asks for one short answer after the other until its input ends, then prints the
latencies in ms as JSON: `answers` from a worker of its own, `acks` of what the core answers alone.
"""

import asyncio
import json
import sys
import time
from random import Random

from support.chaos.ledger import Ledger, Plan
from support.chaos.visit import Visit
from support.report import say

_PAUSE_S = 0.001


async def _live(url: str) -> dict[str, list[float]]:
    latencies: dict[str, list[float]] = {"answers": [], "acks": []}
    ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    ledger = Ledger(())
    visit = await Visit(ledger, "neighbour", Random(0), "").open(url)
    assert await visit.load("garbler"), visit.told
    say("ready")
    while not ended.done():
        began = time.perf_counter()
        await visit.ended(visit.ask("interrupt", target_request_id="nothing"))
        acked = time.perf_counter()
        await visit.ended(visit.generate(Plan("garbler", "echo", "how are you", "how are you")))
        latencies["acks"].append((acked - began) * 1e3)
        latencies["answers"].append((time.perf_counter() - acked) * 1e3)
        visit.book.requests.clear()
        await asyncio.sleep(_PAUSE_S)
    await visit.leave()
    assert not ledger.breaches, ledger.breaches
    return latencies


if __name__ == "__main__":
    say(json.dumps(asyncio.run(_live(sys.argv[1]))))
