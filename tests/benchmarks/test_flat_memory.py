"""The programme that shows that memory stays flat, over the bare pieces and in small."""

import sys
from collections import Counter

import pytest
from benchmarks import flat_memory
from benchmarks.children import running
from benchmarks.flat_memory import PARTS, Sample, Series, Sizes, Together, lines, measure
from benchmarks.subject import Subject

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the benchmarks need POSIX")


async def test_each_part_is_looked_at_and_every_answer_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_memory, "_SETTLE_S", 0.0)
    with running("benchmarks.upstream") as (_, port):
        upstream = f"http://127.0.0.1:{port}/v1"
        with running("benchmarks.bare.relay", upstream) as (process, url):
            sizes = Sizes(chunks=1000, requests=20, connections=20)
            first, *series = [result async for result in measure(Subject(url, process.pid), sizes)]
    assert isinstance(first, Together)
    assert first.count == 20
    for result, title, last in zip(series, ("chunks", "requests", "connections"), (1000, 20, 200), strict=True):
        assert isinstance(result, Series)
        assert (result.title, dict(result.faults), len(result.samples)) == (title, {}, 1 + PARTS)
        assert result.samples[-1].count == last


def test_growth_is_counted_from_the_first_part_on() -> None:
    samples = [Sample(count, 30_000_000 + count, 40_000_000 - count, 1.0) for count in (0, 1_000_000, 3_000_000)]
    series = Series("chunks", samples, Counter(text=2))
    assert series.growth == (2_000_000, -2_000_000)
    assert list(lines(series)) == [
        "chunks     core, MB  worker, MB  core's CPU, s",
        "0          30.0      40.0        1.00",
        "1,000,000  31.0      39.0        1.00",
        "3,000,000  33.0      37.0        1.00",
        "since the first part: core +2.0 MB, worker -2.0 MB",
        "bad answers: 2 {'text': 2}",
    ]
    together = Together(1000, 30_000_000, 40_000_000)
    assert list(lines(together)) == ["1,000 idle connections: 30.0 MB before, 40.0 MB with them, 10.0 kB each"]
