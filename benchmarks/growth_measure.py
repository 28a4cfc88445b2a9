"""The sweeps of a growth run: one thing grows, and each step says what arrived and which process took which CPU."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import psutil
from benchmarks.answers import Wanted, full_text
from benchmarks.cases import Bench
from benchmarks.children import cpu_s, resident_bytes
from benchmarks.growth_record import OURS, GrowthRecord, Role, Sweep, cpu_name
from benchmarks.load_generator import Client, Generation, clients
from benchmarks.measured import Side
from benchmarks.pacing import Paced, paced
from benchmarks.subject import API_KEY, PROVIDER, Subject, served
from benchmarks.summary import percentile

SIDES: Final = (Side.PRODUCT, Side.LIMIT)
_WARM_UP: Final = Wanted(n=20)
_SETTLE_S: Final = 0.3
_SAMPLE_S: Final = 0.1
# A guest's time is counted as its host's too.
_NOT_BUSY: Final = frozenset({"idle", "iowait", "guest", "guest_nice"})


@dataclass(frozen=True, slots=True)
class GrowthSizes:
    """The steps of each sweep. `flood`: chunks in all, `probes`: requests that time an answer, `prompts`: bytes."""

    connections: tuple[int, ...] = (1, 100, 300, 600, 1000, 1500, 1900)
    streams: tuple[int, ...] = (1, 3, 10, 30, 100, 300)
    paced: tuple[int, ...] = (100, 200, 500, 1000, 1500)
    workers: tuple[int, ...] = (1, 2, 4, 8)
    modules: tuple[int, ...] = (1, 2)
    prompts: tuple[int, ...] = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
    flood: int = 120_000
    probes: int = 40
    paced_rate: int = 20
    paced_s: float = 2.2


FULL: Final = GrowthSizes()
SHORT: Final = GrowthSizes(
    connections=(1, 5), streams=(1, 3), paced=(5,), workers=(2,), modules=(2,), prompts=(1_000, 20_000),
    flood=600, probes=3, paced_s=0.5,
)  # fmt: skip


async def sweep_all(bench: Bench, sizes: GrowthSizes, record: GrowthRecord) -> AsyncIterator[str]:
    """One round of everything; says what comes next."""
    growth = _Growth(bench, sizes, record)
    for sweep, measure in (
        (Sweep.CONNECTIONS, growth.connections),
        (Sweep.STREAMS, growth.streams),
        (Sweep.PACED, growth.paced),
        (Sweep.WORKERS, growth.workers),
        (Sweep.MODULES, growth.modules),
        (Sweep.PROMPTS, growth.prompts),
    ):
        yield sweep
        await measure()


@dataclass(frozen=True, slots=True)
class _Pids:
    """Whose CPU is counted; that of the clients is this process's."""

    of: Mapping[Role, Sequence[int]]

    @classmethod
    def around(cls, *subjects: Subject, workers: Sequence[int] | None = None) -> "_Pids":
        found = [subject.worker() for subject in subjects] if workers is None else workers
        return cls({Role.SERVICE: [_service()], Role.WORKER: found, Role.CORE: [subject.core for subject in subjects]})

    def now(self) -> dict[Role, float]:
        """CPU seconds so far."""
        own = {role: sum(map(cpu_s, pids)) for role, pids in self.of.items()} | {Role.CLIENTS: time.process_time()}
        whole = psutil.cpu_times()._asdict()
        busy = sum(seconds for kind, seconds in whole.items() if kind not in _NOT_BUSY)
        return own | {Role.OTHERS: busy - sum(own.values())}


def _service() -> int:
    """The fast upstream that `bench` started."""
    for child in psutil.Process().children():
        if "benchmarks.upstream" in child.cmdline():
            return child.pid
    raise LookupError("there is no upstream")


def workers_of(subject: Subject) -> list[int]:
    """The pids of all workers of a module."""
    children = psutil.Process(subject.core).children(recursive=True)
    return [child.pid for child in children if "/seed/" in " ".join(child.cmdline())]


@dataclass(slots=True)
class _Asked:
    """What came of some requests; `shares`: cores that each role used meanwhile."""

    seconds: float
    shares: dict[Role, float]
    generations: list[Generation]

    def values(self, chunks: int, side: str = Side.PRODUCT) -> dict[str, float]:
        """What a flood of so many chunks says, as it is kept."""
        return {
            f"{side}.chunks_per_s": chunks / self.seconds,
            **_shares(self.shares, side),
            **{f"{side}.us.{role}": self.shares[role] * self.seconds / chunks * 1e6 for role in OURS},
        }


class _Growth:
    """One round."""

    def __init__(self, bench: Bench, sizes: GrowthSizes, record: GrowthRecord) -> None:
        self._bench = bench
        self._sizes = sizes
        self._record = record

    async def connections(self) -> None:
        """Clients that are connected and do nothing, in a module of their own; one asks."""
        with served(self._bench.home) as module:
            async with contextlib.AsyncExitStack() as stack:
                (asking,) = await stack.enter_async_context(_loaded(module, 1))
                await asyncio.sleep(_SETTLE_S)
                there, alone = 1, resident_bytes(module.core)
                for count in self._sizes.connections:
                    await stack.enter_async_context(clients(module.url, count - there))
                    there = count
                    await asyncio.sleep(_SETTLE_S)
                    resident = resident_bytes(module.core)
                    probes = [await self._ask([asking], _WARM_UP, stream=False) for _ in range(self._sizes.probes)]
                    totals = [_ms(asked, "ended") for asked in probes]
                    values = {"answer_ms": percentile(totals, 0.5), "core_mb": resident / 1e6}
                    if count > 1:
                        values["connection_kb"] = (resident - alone) / 1e3 / (count - 1)
                    self._record.add(Sweep.CONNECTIONS, count, values)

    async def streams(self) -> None:
        """So many streams at once, each on a connection of its own; the same number of chunks in all."""
        for count in self._sizes.streams:
            for side in SIDES:
                subject = self._bench.subjects[side]
                async with _loaded(subject, count) as opened:
                    asked = await self._ask(opened, Wanted(n=self._sizes.flood // count), _Pids.around(subject))
                self._record.add(Sweep.STREAMS, count, asked.values(self._sizes.flood // count * count, side))

    async def paced(self) -> None:
        """So many streams at the pace of a language model."""
        sizes = self._sizes
        for count in sizes.paced:
            for side in SIDES:
                subject = self._bench.subjects[side]
                async with _sampled(subject) as samples:
                    once = await paced(
                        subject,
                        streams=count,
                        connections=min(100, count),
                        rate=sizes.paced_rate,
                        seconds=sizes.paced_s,
                    )
                self._record.add(Sweep.PACED, count, _paced_values(once, samples, side))
                self._record.blame(once.faults)

    async def workers(self) -> None:
        """Streams that are shared out among workers: a key of its own makes each."""
        most = max(self._sizes.workers)
        for count in self._sizes.workers:
            with served(self._bench.home) as module:
                keys = [f"{API_KEY}-{number % count}" for number in range(most)]
                async with _loaded(module, most, keys) as opened:
                    workers = workers_of(module)
                    assert len(workers) == count
                    pids = _Pids.around(module, workers=workers)
                    asked = await self._ask(opened, Wanted(n=self._sizes.flood // most), pids)
                    values = asked.values(self._sizes.flood // most * most)
                    values["workers_mb"] = sum(map(resident_bytes, workers)) / 1e6
                self._record.add(Sweep.WORKERS, count, values)

    async def modules(self) -> None:
        """The same streams, shared out among modules with a worker each."""
        most = max(self._sizes.workers)
        for count in self._sizes.modules:
            async with contextlib.AsyncExitStack() as stack:
                processes = stack.enter_context(ExitStack())
                modules = [processes.enter_context(served(self._bench.home)) for _ in range(count)]
                opened = []
                for module in modules:
                    opened += await stack.enter_async_context(_loaded(module, most // count))
                asked = await self._ask(opened, Wanted(n=self._sizes.flood // most), _Pids.around(*modules))
            self._record.add(Sweep.MODULES, count, asked.values(self._sizes.flood // most * len(opened)))

    async def prompts(self) -> None:
        """Requests one after the other whose prompts are as long as this, in ASCII; the answer is short."""
        subject = self._bench.subjects[Side.PRODUCT]
        wanted = Wanted(n=1)
        async with _loaded(subject, 1) as opened:
            pids = _Pids.around(subject)
            for size in self._sizes.prompts:
                prompt = ("word " * (size // 5 + 1))[:size]
                probes = [await self._ask(opened, wanted, pids, prompt=prompt) for _ in range(self._sizes.probes)]
                seconds = sum(asked.seconds for asked in probes)
                values = {
                    "ack_ms": percentile([_ms(asked, "acked") for asked in probes], 0.5),
                    "first_ms": percentile([_ms(asked, "begun") for asked in probes], 0.5),
                }
                used = {role: sum(asked.shares[role] * asked.seconds for asked in probes) for role in Role}
                values |= {cpu_name(role): used[role] / seconds for role in Role}
                values |= {f"cpu_ms.{role}": used[role] / len(probes) * 1e3 for role in OURS}
                self._record.add(Sweep.PROMPTS, size, values)

    async def _ask(
        self,
        opened: Sequence[Client],
        wanted: Wanted,
        pids: _Pids | None = None,
        *,
        stream: bool = True,
        prompt: str = "hi",
    ) -> _Asked:
        """Each client asks once, all at the same time."""
        before = pids.now() if pids is not None else {}
        begun = time.perf_counter()
        generations = [client.generate(wanted.model, stream=stream, prompt=prompt) for client in opened]
        for generation in generations:
            await generation.finished
        seconds = time.perf_counter() - begun
        after = pids.now() if pids is not None else {}
        faults = Counter[str]()
        for client, generation in zip(opened, generations, strict=True):
            faults += await client.finished([generation]) + generation.faults(full_text(wanted.n))
        self._record.blame(faults)
        shares = {role: (after[role] - before[role]) / seconds for role in after}
        return _Asked(seconds, shares, generations)


def _paced_values(once: Paced, samples: "Samples", side: str) -> dict[str, float]:
    """As they are kept; none where the machine was so busy that not all streams ran at any one time."""
    if not once.arrivals:
        return {}
    hop = [arrival.hop_ms for arrival in once.arrivals]
    late = [arrival.late_ms for arrival in once.arrivals]
    sent = [arrival.sent_us / 1e6 for arrival in once.arrivals]
    return {
        f"{side}.us.{Role.CORE}": once.core_us,
        f"{side}.us.{Role.WORKER}": once.worker_us,
        f"{side}.hop_p50_ms": percentile(hop, 0.5),
        f"{side}.hop_p99_ms": percentile(hop, 0.99),
        f"{side}.late_p99_ms": percentile(late, 0.99),
        **_shares(between(samples, min(sent), max(sent)), side),
    }


def _shares(shares: Mapping[Role, float], side: str) -> dict[str, float]:
    # What is left for others is the small difference of clocks that tick each on its own.
    return {cpu_name(role, side): max(0.0, share) for role, share in shares.items()}


def _ms(asked: _Asked, moment: str) -> float:
    (generation,) = asked.generations
    at: float = getattr(generation, moment)
    return (at - generation.asked) * 1e3


@asynccontextmanager
async def _loaded(subject: Subject, count: int, keys: Sequence[str] = ()) -> AsyncIterator[list[Client]]:
    """So many connections that have loaded the provider, and asked once; with `keys`, one for each."""
    async with clients(subject.url, count) as opened:
        for client, key in zip(opened, keys or [API_KEY] * count, strict=True):
            await client.load(PROVIDER, key)
            generation = client.generate(_WARM_UP.model, stream=True)
            faults = await client.finished([generation]) + generation.faults(full_text(_WARM_UP.n))
            assert not faults, f"the first request failed: {dict(faults)} {generation.error or ''}"
        yield opened


Samples = list[tuple[float, dict[Role, float]]]


@asynccontextmanager
async def _sampled(subject: Subject) -> AsyncIterator[Samples]:
    """CPU seconds of all roles, again and again while the block lasts. The worker runs already."""
    pids, samples = _Pids.around(subject), Samples()

    async def sample() -> None:
        while True:
            samples.append((time.monotonic(), pids.now()))
            await asyncio.sleep(_SAMPLE_S)

    sampling = asyncio.create_task(sample())
    try:
        yield samples
    finally:
        sampling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sampling


def between(samples: Samples, begin_s: float, end_s: float) -> dict[Role, float]:
    """Cores that each role used from one moment of CLOCK_MONOTONIC to another; empty without two samples within."""
    within = [sample for sample in samples if begin_s <= sample[0] <= end_s]
    if len(within) < 2:
        return {}
    (begin, before), (end, after) = within[0], within[-1]
    return {role: (after[role] - before[role]) / (end - begin) for role in after}
