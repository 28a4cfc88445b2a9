"""Streams at the pace of a model: how long after the service wrote it each chunk is there, and whether memory grows."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.answers import Wanted
from benchmarks.children import cpu_s, resident_bytes
from benchmarks.flood import warm_up
from benchmarks.load_generator import Generation, clients
from benchmarks.subject import Subject

_STAMP: Final = re.compile(r"@(\d+)/(\d+);")
_RAMP_S: Final = 0.8
_SETTLED_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Arrival:
    """One chunk. `sent_us`: when the service wrote it; `hop_ms`: how long after that it was there; `late_ms`: how long
    after its schedule.
    """

    sent_us: int
    hop_ms: float
    late_ms: float


@dataclass(frozen=True, slots=True)
class Paced:
    """What came of it. `arrivals`: of the time in which all streams ran; `grown_mb`: memory of core and worker from the
    middle of that to its end; `core_us`, `worker_us`: their CPU per chunk meanwhile, in µs.
    """

    expected: int
    delivered: int
    arrivals: list[Arrival]
    grown_mb: float
    core_us: float
    worker_us: float
    faults: Counter[str]


async def paced(subject: Subject, *, streams: int, connections: int, rate: int, seconds: float) -> Paced:
    """So many streams of `rate` chunks a second, each `seconds` long; their starts are spread over a moment."""
    wanted = Wanted(n=max(1, int(rate * seconds)), rate=rate, ts=1)
    ramp_s = min(_RAMP_S, seconds / 3)
    async with clients(subject.url, connections) as opened:
        worker = await warm_up(subject, opened)
        begun = time.monotonic()
        generations = []
        for number in range(streams):
            client = opened[number % connections]
            generations.append(client.generate(wanted.model, stream=True, stamps=True))
            await asyncio.sleep(max(0.0, begun + ramp_s * (number + 1) / streams - time.monotonic()))
        last_begun, first_ends = time.monotonic(), begun + seconds
        core_s, worker_s = cpu_s(subject.core), cpu_s(worker)
        memory = await _memory(subject.core, worker, last_begun, first_ends)
        core_s, worker_s, measured_until = cpu_s(subject.core) - core_s, cpu_s(worker) - worker_s, time.monotonic()
        faults = Counter[str]()
        for number, client in enumerate(opened):
            faults += await client.finished(generations[number::connections])
    for generation in generations:
        faults += generation.faults(None)
    arrivals = list(_arrivals(generations))
    faults += Counter(text=streams * wanted.n - len(arrivals))
    settled = min(_SETTLED_S, (first_ends - last_begun) / 3)
    measured = within(arrivals, last_begun + settled, first_ends)
    count = max(1, len(within(arrivals, last_begun, measured_until))) / 1e6
    return Paced(streams * wanted.n, len(arrivals), measured, memory, core_s / count, worker_s / count, faults)


def within(arrivals: Sequence[Arrival], begin_s: float, end_s: float) -> list[Arrival]:
    """Those that the service wrote in between."""
    return [arrival for arrival in arrivals if begin_s * 1e6 <= arrival.sent_us <= end_s * 1e6]


def read_stamps(moment_s: float, text: str) -> Iterator[Arrival]:
    """The chunks in a text that was there at that moment of CLOCK_MONOTONIC; a stamp is never cut."""
    for stamp in _STAMP.finditer(text):
        sent_us, late_us = int(stamp[1]), int(stamp[2])
        hop_ms = moment_s * 1e3 - sent_us / 1e3
        yield Arrival(sent_us, hop_ms, hop_ms + late_us / 1e3)


def _arrivals(generations: Sequence[Generation]) -> Iterator[Arrival]:
    for generation in generations:
        for moment_s, text in generation.stamps or ():
            yield from read_stamps(moment_s, text)


async def _memory(core: int, worker: int, begin_s: float, end_s: float) -> float:
    """How much more memory both have at the end than in the middle; in MB."""
    before = 0
    for part in (0.5, 1.0):
        await asyncio.sleep(max(0.0, begin_s + (end_s - begin_s) * part - time.monotonic()))
        now = resident_bytes(core) + resident_bytes(worker)
        before, grown = now, now - before
    return grown / 1e6
