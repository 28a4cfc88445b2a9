"""Workers in memory, played message by message, and real ones."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from support.pool_fixtures import bench, make_bench
from support.running_module import running_module

from waifu_llm.config import WorkerSettings

__all__ = ["bench", "make_bench", "url"]


@pytest.fixture
async def url(home: Path, installed: Callable[..., None]) -> AsyncIterator[str]:
    """A module with the misbehaving worker installed, which it kills quickly where that ignores a cancel."""
    installed("fake")
    async with running_module(home, workers=WorkerSettings(cancel_s=0.2)) as module:
        yield module.url
