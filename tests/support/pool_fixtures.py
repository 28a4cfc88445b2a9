"""Pools whose processes are in memory: `make_bench` and `bench`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.pool_bench import Bench, MakeBench, make
from support.waiting import bounded


@pytest.fixture
async def make_bench(tmp_path: Path) -> AsyncIterator[MakeBench]:
    benches: list[Bench] = []

    def making(**settings: object) -> Bench:
        benches.append(make(tmp_path, **settings))  # type: ignore[arg-type]
        return benches[-1]

    yield making
    for bench in benches:
        async with bounded():
            await bench.pool.close()


@pytest.fixture
async def bench(make_bench: MakeBench) -> Bench:
    return make_bench()
