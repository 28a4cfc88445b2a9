"""Many clients, many requests, many streams: is everyone answered, and what does it cost? See `scripts/load.py`."""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import psutil
from support.chaos.ledger import Ledger, Plan, Request
from support.chaos.module import ChaosModule
from support.chaos.visit import Visit
from support.report import percentile, say

_TESTS: Final = Path(__file__).resolve().parents[2]
_SAMPLE_S: Final = 0.05
_QUIET_S: Final = 1.0
_AT_ONCE: Final = 50
_WORDS: Final = " ".join(f"word{number}" for number in range(40))
_SPOKEN: Final = Plan("echo", "echo-slow", _WORDS, _WORDS, timeout_ms=120_000)
_SHORT: Final = Plan("echo", "echo", "one two three", "one two three", timeout_ms=120_000)
_LARGE: Final = Plan("fake", "size=2000000", whole="x" * 2_000_000, timeout_ms=120_000)
_STREAMS_PER_CLIENT: Final = 10
_SMALL_BUFFER: Final = 4096


@dataclass(frozen=True)
class Size:
    """How much of each."""

    idle: int = 1000
    burst: int = 10_000
    streams: int = 1000
    slow: int = 20


class Load:
    """One run over one module. `figures`: what was measured, in order; `ledger`: what was promised and not kept."""

    def __init__(self, module: ChaosModule, size: Size) -> None:
        self.ledger = Ledger(())
        self.figures: list[tuple[str, str]] = []
        self._module = module
        self._size = size
        self._peak_mb = 0.0

    async def quiet(self) -> None:
        """A neighbour of nobody, to compare with."""
        async with self._neighbour("nobody"):
            await asyncio.sleep(_QUIET_S)

    async def idle(self) -> None:
        """Connections that do nothing."""
        before = (await self._module.settled()).memory_mb
        began = time.perf_counter()
        visits: list[Visit] = []
        while len(visits) < self._size.idle:
            count = min(_AT_ONCE, self._size.idle - len(visits))
            visits += await asyncio.gather(*(self._visit(f"idle {n}") for n in range(count)))
        took = time.perf_counter() - began
        after = (await self._module.census()).memory_mb
        await asyncio.gather(*(visit.ended(visit.ask("interrupt")) for visit in visits))
        await self._all_leave(visits)
        name = f"{self._size.idle:,} idle connections"
        self._note(f"{name}: memory before, with them", f"{before:.1f} MiB, {after:.1f} MiB")
        self._note(
            f"{name}: each",
            f"{(after - before) * 1024 / self._size.idle:.1f} KiB, {took * 1e3 / self._size.idle:.2f} ms",
        )

    async def burst(self) -> None:
        """Requests of one client, all sent before the first answer is read, beside a neighbour."""
        visit = await self._visit("burst")
        assert await visit.load("echo"), visit.told
        before = (await self._module.census()).memory_mb
        async with self._neighbour("burst"), self._watching():
            began = time.perf_counter()
            requests = [visit.generate(_SHORT, stream=False) for _ in range(self._size.burst)]
            await visit.ended(*requests)
            took = time.perf_counter() - began
        await self._after(visit, requests)
        name = f"burst of {self._size.burst:,}"
        self._note(f"{name}: ends", self._outcomes(requests))
        self._note(f"{name}: took", f"{took:.2f} s, {self._size.burst / took:,.0f} a second")
        self._note(f"{name}: memory before, at most", f"{before:.1f} MiB, {self._peak_mb:.1f} MiB")

    async def streams(self) -> None:
        """Streams at once, with readers beside them that do not read, and a neighbour."""
        clients = [await self._visit(f"stream {n}") for n in range(-(-self._size.streams // _STREAMS_PER_CLIENT))]
        slow = [await self._visit(f"slow {n}", _SMALL_BUFFER) for n in range(self._size.slow)]
        await asyncio.gather(*(visit.load("echo") for visit in clients), *(visit.load("fake") for visit in slow))
        before = (await self._module.census()).memory_mb
        async with self._neighbour("streams"), self._watching():
            for visit in slow:
                for _ in range(3):
                    visit.generate(_LARGE)
                visit.socket.pause()
            began = time.perf_counter()
            asked = {visit: [visit.generate(_SPOKEN) for _ in range(_STREAMS_PER_CLIENT)] for visit in clients}
            await asyncio.gather(*(visit.ended(*requests) for visit, requests in asked.items()))
            took = time.perf_counter() - began
        for visit in slow:
            visit.vanish()
        for visit, requests in asked.items():
            await self._after(visit, requests)
        everything = [request for requests in asked.values() for request in requests]
        name = f"{len(everything):,} streams, {len(slow)} slow readers"
        self._note(f"{name}: ends", self._outcomes(everything))
        self._note(f"{name}: took", f"{took:.2f} s for 40 words, one each 100 ms")
        self._note(f"{name}: memory before, at most", f"{before:.1f} MiB, {self._peak_mb:.1f} MiB")

    async def nothing_stays(self) -> None:
        """When all have left it is as if they had never been there."""
        census = await self._module.settled()
        self._note("after all: memory in use", f"{census.memory_mb:.1f} MiB")

    async def _visit(self, who: str, receive_buffer: int | None = None) -> Visit:
        visit = Visit(self.ledger, who, Random(0), "")
        return await visit.open(self._module.url, receive_buffer=receive_buffer)

    async def _all_leave(self, visits: list[Visit]) -> None:
        for visit in visits:
            await visit.leave()

    async def _after(self, visit: Visit, requests: list[Request]) -> None:
        """Every request has had one acknowledgement, before its one end, and nothing follows."""
        await visit.ended(visit.ask("get_stats"))
        wrong = sum(1 for request in requests if (request.acks, request.terminals) != (1, 1))
        if wrong:
            self.ledger.breach(f"{wrong} requests of {visit.who} did not have one acknowledgement and one end")
        await visit.leave()

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        """The highest memory in the block."""
        self._peak_mb = 0.0

        async def watch() -> None:
            core = psutil.Process(self._module.pid)
            while True:
                self._peak_mb = max(self._peak_mb, core.memory_info().rss / 2**20)
                await asyncio.sleep(_SAMPLE_S)

        watching = asyncio.ensure_future(watch())
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    @asynccontextmanager
    async def _neighbour(self, during: str) -> AsyncIterator[None]:
        """Somebody else, all the while."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "support.load.neighbour",
            self._module.url,
            cwd=_TESTS,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**24,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert await process.stdout.readline() == b"ready\n"
            yield
            process.stdin.close()
            latencies: dict[str, list[float]] = json.loads(await process.stdout.readline())
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
        for what, values in latencies.items():
            figures = [f"{percentile(values, part):.1f}" for part in (0.5, 0.99, 1.0)]
            self._note(f"neighbour of {during}: {len(values):,} {what}, p50/p99/worst", f"{'/'.join(figures)} ms")

    def _outcomes(self, requests: list[Request]) -> str:
        return ", ".join(f"{count:,} {name}" for name, count in Counter(r.outcome for r in requests).items())

    def _note(self, name: str, figure: str) -> None:
        self.figures.append((name, figure))


async def run(root: Path, size: Size) -> Load:
    """Everything, one after the other, over a module with its own limits in a home at `root`."""
    module = await ChaosModule.start(root, config="")
    try:
        load = Load(module, size)
        for step in (load.quiet, load.idle, load.burst, load.streams, load.nothing_stays):
            await step()
        module.process.terminate()
        assert await module.ended(30.0) == 0
        return load
    finally:
        await module.kill()


def main() -> int:
    """0 where everyone was answered as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("idle", 1000), ("burst", 10_000), ("streams", 1000), ("slow", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="waifu-llm-load-", ignore_cleanup_errors=True) as folder:
        load = asyncio.run(run(Path(folder), Size(asked.idle, asked.burst, asked.streams, asked.slow)))
    for name, figure in load.figures:
        say(f"{name:<64} {figure}")
    for sentence in load.ledger.breaches[:20]:
        say(f"  {sentence}")
    say(f"{load.ledger.lost} lost, {load.ledger.double} double, {len(load.ledger.breaches)} promises broken")
    return 1 if load.ledger.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
