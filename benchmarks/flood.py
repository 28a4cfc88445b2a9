"""Streams as fast as they come: how many chunks a second arrive, and what CPU that takes."""

import time
from collections import Counter
from dataclasses import dataclass

from benchmarks.answers import Wanted, full_text
from benchmarks.children import cpu_s
from benchmarks.load_generator import PROMPT, Client, clients
from benchmarks.subject import API_KEY, PROVIDER, Subject

_WARM_UP = Wanted(n=20)


@dataclass(frozen=True, slots=True)
class Flood:
    """What came of it; times in seconds. `frames`: messages that brought the `chunks`."""

    chunks: int
    seconds: float
    first_s: list[float]
    core_cpu_s: float
    worker_cpu_s: float
    frames: int
    faults: Counter[str]

    @property
    def chunks_per_s(self) -> float:
        """Chunks of the service that arrived."""
        return self.chunks / self.seconds


async def flood(
    subject: Subject, *, streams: int, connections: int = 1, chunks: int = 100_000, prompt: str = PROMPT
) -> Flood:
    """So many streams at once, `chunks` in all, from a provider that is loaded first."""
    wanted = Wanted(n=max(1, chunks // streams))
    async with clients(subject.url, connections) as opened:
        worker = await warm_up(subject, opened)
        core_s, worker_s = cpu_s(subject.core), cpu_s(worker)
        frames = sum(client.frames for client in opened)
        begun = time.perf_counter()
        asked: dict[Client, list[int]] = {client: [] for client in opened}
        generations = []
        for number in range(streams):
            client = opened[number % connections]
            asked[client].append(number)
            generations.append(client.generate(wanted.model, stream=True, prompt=prompt))
        for generation in generations:
            await generation.finished
        seconds = time.perf_counter() - begun
        core_s, worker_s = cpu_s(subject.core) - core_s, cpu_s(worker) - worker_s
        frames = sum(client.frames for client in opened) - frames
        faults = Counter[str]()
        for client, numbers in asked.items():
            faults += await client.finished([generations[number] for number in numbers])
    for generation in generations:
        faults += generation.faults(full_text(wanted.n))
    first = [generation.begun - generation.asked for generation in generations]
    return Flood(wanted.n * streams, seconds, first, core_s, worker_s, frames, faults)


async def warm_up(subject: Subject, opened: list[Client]) -> int:
    """Load the provider for each client and let each ask once; the worker's pid."""
    for client in opened:
        await client.load(PROVIDER, API_KEY)
        generation = client.generate(_WARM_UP.model, stream=True)
        faults = await client.finished([generation]) + generation.faults(full_text(_WARM_UP.n))
        assert not faults, f"the first request failed: {dict(faults)} {generation.error or ''}"
    return subject.worker()
