"""One request after the other: how long until it is acknowledged, until its first chunk, until it is whole."""

from collections import Counter
from dataclasses import dataclass

from benchmarks.answers import Wanted, full_text
from benchmarks.children import cpu_s
from benchmarks.flood import warm_up
from benchmarks.load_generator import Generation, clients
from benchmarks.subject import Subject

ANSWER = Wanted(n=20)


@dataclass(frozen=True, slots=True)
class Latencies:
    """In ms, one of each request. `first`: of a request that is not streamed it is the end. `core_us`, `worker_us`: CPU
    for each, in µs.
    """

    ack: list[float]
    first: list[float]
    total: list[float]
    core_us: float
    worker_us: float
    faults: Counter[str]


async def latencies(subject: Subject, *, stream: bool, requests: int, warm: int) -> Latencies:
    """`requests` of one client after `warm` others."""
    async with clients(subject.url, 1) as (client,):
        worker = await warm_up(subject, [client])

        async def one() -> Generation:
            generation = client.generate(ANSWER.model, stream=stream)
            await generation.finished
            return generation

        before = [await one() for _ in range(warm)]
        core_s, worker_s = cpu_s(subject.core), cpu_s(worker)
        done = [await one() for _ in range(requests)]
        core_s, worker_s = cpu_s(subject.core) - core_s, cpu_s(worker) - worker_s
        faults = await client.finished(before + done)
        for generation in before + done:
            faults += generation.faults(full_text(ANSWER.n))
    return Latencies(
        [(generation.acked - generation.asked) * 1e3 for generation in done],
        [((generation.begun or generation.ended) - generation.asked) * 1e3 for generation in done],
        [(generation.ended - generation.asked) * 1e3 for generation in done],
        core_s / requests * 1e6,
        worker_s / requests * 1e6,
        faults,
    )
