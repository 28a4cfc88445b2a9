"""What core and worker have in memory while more and more passes through them: it has to stay where it is.

`python3 scripts/flat_memory.py` prints tables: a million chunks and ten thousand requests in ten parts each, and a
thousand connections that come and go ten times.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.answers import Wanted, full_text
from benchmarks.children import cpu_s, resident_bytes, running
from benchmarks.flood import flood, warm_up
from benchmarks.load_generator import Client, clients
from benchmarks.subject import Subject, product_home, served
from benchmarks.table import aligned

PARTS: Final = 10
_STREAMS: Final = 10
_AT_ONCE: Final = 50
_SHORT: Final = Wanted(n=3)
_SETTLE_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes resident after so many of something. `core_cpu_s`: what the core has used of the CPU so far."""

    count: int
    core: int
    worker: int
    core_cpu_s: float


@dataclass(frozen=True, slots=True)
class Series:
    """A row for each part; `faults` are answers that were not right."""

    title: str
    samples: list[Sample]
    faults: Counter[str]

    @property
    def growth(self) -> tuple[int, int]:
        """Bytes that core and worker have more at the end than after the first part, which warms them up."""
        first, last = self.samples[1], self.samples[-1]
        return last.core - first.core, last.worker - first.worker


Part = Callable[[int], Awaitable[Counter[str]]]


async def _series(subject: Subject, title: str, count: int, part: Part) -> Series:
    """Do ten parts of `count`, of which `part` does each, and look at both processes after each."""
    samples, faults = [await _look(subject, 0)], Counter[str]()
    for number in range(1, PARTS + 1):
        faults += await part(count // PARTS)
        samples.append(await _look(subject, number * (count // PARTS)))
    return Series(title, samples, faults)


async def _look(subject: Subject, count: int) -> Sample:
    await asyncio.sleep(_SETTLE_S)
    worker = subject.worker()
    return Sample(count, resident_bytes(subject.core), resident_bytes(worker), cpu_s(subject.core))


async def chunks(subject: Subject, count: int) -> Series:
    """Streams as fast as they come."""

    async def part(share: int) -> Counter[str]:
        return (await flood(subject, streams=_STREAMS, chunks=share)).faults

    return await _series(subject, "chunks", count, part)


async def requests(subject: Subject, client: Client, count: int) -> Series:
    """Short requests, every second one streamed, some at a time."""

    async def part(share: int) -> Counter[str]:
        faults = Counter[str]()
        for _ in range(0, share, _AT_ONCE):
            asked = [client.generate(_SHORT.model, stream=number % 2 == 0) for number in range(_AT_ONCE)]
            faults += await client.finished(asked)
            for generation in asked:
                faults += generation.faults(full_text(_SHORT.n))
        return faults

    return await _series(subject, "requests", count, part)


async def connections(subject: Subject, count: int) -> Series:
    """All of them come, and go again; each part is looked at after they have left."""

    async def part(share: int) -> Counter[str]:
        async with clients(subject.url, share):
            return Counter()

    return await _series(subject, "connections", count * PARTS, part)


@dataclass(frozen=True, slots=True)
class Together:
    """What so many connections weigh while they are there and do nothing."""

    count: int
    before: int
    during: int

    @property
    def each(self) -> float:
        """Bytes."""
        return (self.during - self.before) / self.count


async def together(subject: Subject, count: int) -> Together:
    """All at once. Asked first, while no other has left memory that they could take."""
    before = (await _look(subject, 0)).core
    async with clients(subject.url, count):
        return Together(count, before, (await _look(subject, 0)).core)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each."""

    chunks: int = 1_000_000
    requests: int = 10_000
    connections: int = 1_000


async def measure(subject: Subject, sizes: Sizes) -> AsyncIterator[Together | Series]:
    """Everything, one after the other, over a module that nobody has asked anything yet."""
    async with clients(subject.url, 1) as (client,):
        await warm_up(subject, [client])
        yield await together(subject, sizes.connections)
        yield await chunks(subject, sizes.chunks)
        yield await requests(subject, client, sizes.requests)
        yield await connections(subject, sizes.connections)


def lines(result: Together | Series) -> Iterator[str]:
    """A result as it is printed."""
    if isinstance(result, Together):
        during = f"{_mb(result.before)} MB before, {_mb(result.during)} MB with them"
        yield f"{result.count:,} idle connections: {during}, {result.each / 1e3:.1f} kB each"
    else:
        head = (result.title, "core, MB", "worker, MB", "core's CPU, s")
        rows = [(f"{s.count:,}", _mb(s.core), _mb(s.worker), f"{s.core_cpu_s:.2f}") for s in result.samples]
        yield from aligned([head, *rows])
        core, worker = result.growth
        yield f"since the first part: core {core / 1e6:+.1f} MB, worker {worker / 1e6:+.1f} MB"
        yield f"bad answers: {sum(result.faults.values())} {dict(result.faults) or ''}".rstrip()


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"


@contextmanager
def product() -> Iterator[Subject]:
    """The product as users have it, over a fast fake service."""
    with running("benchmarks.upstream") as (_, port), product_home(int(port)) as home:
        home.install()
        with served(home) as subject:
            yield subject


async def _print(sizes: Sizes) -> int:
    wrong = 0
    begun = time.monotonic()
    with product() as subject:
        async for result in measure(subject, sizes):
            wrong += isinstance(result, Series) and bool(result.faults)
            sys.stdout.write("\n".join((*lines(result), "", "")))
            sys.stdout.flush()
    sys.stdout.write(f"{time.monotonic() - begun:.0f} s\n")
    return 1 if wrong else 0


def main() -> int:
    """0 where every answer was right, however much memory it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    plain = Sizes()
    parser.add_argument("--chunks", type=int, default=plain.chunks)
    parser.add_argument("--requests", type=int, default=plain.requests)
    parser.add_argument("--connections", type=int, default=plain.connections)
    asked = parser.parse_args()
    return asyncio.run(_print(Sizes(asked.chunks, asked.requests, asked.connections)))


if __name__ == "__main__":
    sys.exit(main())
