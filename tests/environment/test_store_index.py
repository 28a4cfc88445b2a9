"""The package index: asked only where uv's cache does not have it all, and how it may fail."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.package_index import PackageIndex, serving
from support.stores import Watched, built, open_store, wheel_of_installed, write_wheel, write_worker
from support.waiting import bounded

from waifu_llm.catalog import Manifest
from waifu_llm.config import UvSettings
from waifu_llm.environment.model import BuildProgress, EnvironmentState
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.environment.verify import site_packages
from waifu_llm.errors import InstallFailed
from waifu_llm.paths import Home


@pytest.fixture
def index(tmp_path: Path, home: Path) -> Iterator[PackageIndex]:
    folder = tmp_path / "index"
    folder.mkdir()
    with serving(PackageIndex(folder)) as index:
        yield index


@pytest.fixture
def online(index: PackageIndex, tmp_path: Path) -> dict[str, str]:
    """This index alone, an empty cache, and no patience with either."""
    quick = {"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "1"}
    return {**os.environ, **quick, "UV_DEFAULT_INDEX": index.simple, "UV_CACHE_DIR": str(tmp_path / "cache")}


@pytest.fixture
def worker(index: PackageIndex, tmp_path: Path) -> Manifest:
    return write_worker(tmp_path / "workers", "tiny", wheel_of_installed(index.folder, "msgspec"))


async def test_the_index_is_asked_once_and_never_again_once_the_cache_has_it_all(
    index: PackageIndex, online: dict[str, str], worker: Manifest, run: Watched, home: Path
) -> None:
    """FAULTS E7."""
    store = open_store(home, run, online)
    steps: list[BuildProgress] = []
    async with bounded():
        await store.ensure(worker, steps.append)
        assert "asking the package index" in [step.detail for step in steps]
        await store.remove("tiny")
        index.asked.clear()
        index.fault = "error"
        await built(store, worker)
        await store.close()
    assert index.asked == []


@pytest.mark.parametrize("fault", ["error", "hang", "cut"])
async def test_an_index_that_fails_is_a_clear_failure_and_the_next_load_succeeds(
    fault: str, index: PackageIndex, online: dict[str, str], worker: Manifest, run: Watched, home: Path
) -> None:
    """FAULTS E7."""
    index.fault = fault
    store = open_store(home, run, online)
    async with bounded():
        with pytest.raises(InstallFailed, match="network, proxy or index") as caught:
            await store.ensure(worker)
        assert len(caught.value.message) <= 300
        assert store.status(worker).state is EnvironmentState.MISSING
        index.fault = ""
        await built(store, worker)
        await store.close()


async def test_an_index_that_nobody_answers_for_is_a_clear_failure(
    online: dict[str, str], worker: Manifest, run: Watched, home: Path
) -> None:
    store = open_store(home, run, {**online, "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"})
    async with bounded():
        with pytest.raises(InstallFailed, match="network, proxy or index"):
            await store.ensure(worker)
        await store.close()


async def test_a_wheel_that_another_file_took_the_place_of_is_refused(
    index: PackageIndex, online: dict[str, str], run: Watched, home: Path, tmp_path: Path
) -> None:
    """FAULTS E12: here the index itself vouches for the wrong file."""
    lock = wheel_of_installed(index.folder, "msgspec") + write_wheel(index.folder, "dep", "1.0", {"dep.py": b"1\n"})
    write_wheel(index.folder, "dep", "1.0", {"dep.py": b"2\n"})
    store = open_store(home, run, online)
    async with bounded():
        with pytest.raises(InstallFailed, match=r"hash mismatch for dep==1\.0"):
            await store.ensure(write_worker(tmp_path / "workers", "other", lock))
        await store.close()


async def test_the_configured_index_is_the_only_one(
    index: PackageIndex, online: dict[str, str], worker: Manifest, run: Watched, home: Path, tmp_path: Path
) -> None:
    """FAULTS S10: a package of the same name elsewhere is never looked at."""
    (tmp_path / "foreign").mkdir()
    with serving(PackageIndex(tmp_path / "foreign")) as foreign:
        environ = {**online, "UV_DEFAULT_INDEX": foreign.simple, "UV_INDEX": foreign.simple}
        environ["UV_EXTRA_INDEX_URL"] = foreign.simple
        store = EnvironmentStore(Home(home), UvSettings(index=index.simple), run, environ, 60.0)
        environment = await built(store, worker)
        await store.close()
        assert foreign.asked == []
    assert (site_packages(environment.folder) / "msgspec").is_dir()
    assert not [word for command in run.commands for word in command if "http" in word], "it may hold a password"
