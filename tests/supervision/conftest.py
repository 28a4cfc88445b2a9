"""A pool whose processes are in memory, and real processes of a module's own."""

from collections.abc import AsyncIterator

import pytest
from support.pool_fixtures import bench, make_bench

from waifu_llm.supervision.process import Processes

__all__ = ["bench", "make_bench"]


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    async with Processes() as made:
        yield made
