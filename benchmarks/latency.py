"""One request after the other: how long until it is acknowledged, until its first chunk, until it is whole."""

from collections import Counter
from dataclasses import dataclass

from benchmarks.answers import Wanted, full_text
from benchmarks.flood import warm_up
from benchmarks.load_generator import clients
from benchmarks.subject import Subject

ANSWER = Wanted(n=20)


@dataclass(frozen=True, slots=True)
class Latencies:
    """In ms, one of each request. `first`: of a request that is not streamed it is the end."""

    ack: list[float]
    first: list[float]
    total: list[float]
    faults: Counter[str]


async def latencies(subject: Subject, *, stream: bool, requests: int, warm: int) -> Latencies:
    """`requests` of one client after `warm` others."""
    found = Latencies([], [], [], Counter())
    async with clients(subject.url, 1) as (client,):
        await warm_up(subject, [client])
        for number in range(warm + requests):
            generation = client.generate(ANSWER.model, stream=stream)
            found.faults.update(await client.finished([generation]) + generation.faults(full_text(ANSWER.n)))
            if number >= warm:
                found.ack.append((generation.acked - generation.asked) * 1e3)
                found.first.append(((generation.begun or generation.ended) - generation.asked) * 1e3)
                found.total.append((generation.ended - generation.asked) * 1e3)
    return found
