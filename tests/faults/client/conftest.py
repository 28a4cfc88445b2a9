"""A pool whose processes are in memory."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.pool_bench import Bench, MakeBench, make
from support.waiting import bounded


@pytest.fixture
async def make_bench(tmp_path: Path) -> AsyncIterator[MakeBench]:
    """A pool whose processes are in memory."""
    benches: list[Bench] = []

    def making(**settings: Any) -> Bench:
        benches.append(make(tmp_path, **settings))
        return benches[-1]

    yield making
    for bench in benches:
        async with bounded():
            await bench.pool.close()
