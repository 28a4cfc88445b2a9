"""Fixtures for tests of stores: wheels without any index, a small worker, stores over real processes.

A folder's conftest.py imports those that it wants.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.stores import Watched, hermetic, open_store, wheel_of_installed, write_worker

from waifu_llm.catalog import Manifest
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.supervision.process import Processes


@pytest.fixture(scope="session")
def msgspec_wheel(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a wheel of msgspec, and its line for a lock."""
    folder = tmp_path_factory.mktemp("wheels")
    return folder, wheel_of_installed(folder, "msgspec")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """uv's cache for these tests, apart from the user's: some of them spoil files that are linked into it."""
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture
def environ(msgspec_wheel: tuple[Path, str], cache: Path, home: Path) -> dict[str, str]:
    """An environment without any index; after `home`, which takes the user's keys out."""
    return hermetic(msgspec_wheel[0], cache)


@pytest.fixture
def lock(msgspec_wheel: tuple[Path, str]) -> str:
    """A lock of msgspec alone."""
    return msgspec_wheel[1]


@pytest.fixture
def tiny(tmp_path: Path, lock: str) -> Manifest:
    """A worker that starts."""
    return write_worker(tmp_path / "workers", "tiny", lock)


@pytest.fixture
async def run() -> AsyncIterator[Watched]:
    """Real processes, watched."""
    async with Processes() as processes:
        yield Watched(processes.run)


@pytest.fixture
async def store(home: Path, run: Watched, environ: dict[str, str]) -> AsyncIterator[EnvironmentStore]:
    """A store in this test's home."""
    store = open_store(home, run, environ)
    yield store
    await store.close()
