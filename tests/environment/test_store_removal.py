"""What is removed, what is kept, and what each takes."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.stores import Watched, built, open_store, write_worker
from support.waiting import bounded, gone, until

from waifu_llm.catalog import Manifest
from waifu_llm.environment import folders
from waifu_llm.environment.bytecode import PROGRAM as COMPILE
from waifu_llm.environment.model import Environment, EnvironmentState, Size
from waifu_llm.environment.seed import Seed, seed_digests
from waifu_llm.environment.sharing import try_lock
from waifu_llm.environment.store import EnvironmentStore


@contextmanager
def worker_of(environment: Environment) -> Iterator[int]:
    """A live worker: it has said ready and waits for its input."""
    with subprocess.Popen(
        [str(environment.python), "-I", str(environment.seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert b'"ready"' in process.stdout.readline()
        yield process.pid


async def test_what_nobody_uses_is_removed(store: EnvironmentStore, tiny: Manifest, home: Path) -> None:
    environment = await built(store, tiny)
    size = await store.sizes("tiny")
    (removal,) = await store.remove("tiny")
    assert (removal.folder, removal.freed, removal.kept) == (environment.folder, size.own, None)
    assert store.status(tiny).state is EnvironmentState.MISSING
    assert list((home / "envs").iterdir()) == []
    assert await store.remove("tiny") == []


async def test_what_a_live_worker_runs_from_is_kept(store: EnvironmentStore, tiny: Manifest) -> None:
    environment = await built(store, tiny)
    with worker_of(environment) as pid:
        (removal,) = await store.remove("tiny")
        assert removal.kept == f"process {pid} runs from it"
        assert [removal.kept for removal in await store.prune([])] == [f"process {pid} runs from it"] * 2
    assert store.status(tiny).state is EnvironmentState.READY
    async with bounded():
        await until(lambda: gone(pid), "the worker left")
    assert [removal.kept for removal in await store.prune([])] == [None, None]


async def test_what_is_being_built_is_kept(store: EnvironmentStore, tiny: Manifest, run: Watched, home: Path) -> None:
    environment = await built(store, tiny)
    await spoil(environment.folder)
    run.hold("sync")
    async with bounded():
        waiter = asyncio.create_task(store.ensure(tiny))
        await run.reached.wait()
        environment.folder.mkdir()
        (removal,) = await store.remove("tiny")
        assert removal.kept == "it is being installed"
        other = open_store(home, run, {})
        (removal,) = await other.remove("tiny")
        assert removal.kept == "it is being installed", "also where another module builds it"
        environment.folder.rmdir()
        run.may_go.set()
        await waiter


async def spoil(folder: Path) -> None:
    (folder / "waifu-llm-stamp.json").unlink()


async def test_an_own_compile_does_not_keep_it(store: EnvironmentStore, tiny: Manifest, run: Watched) -> None:
    run.hold(COMPILE)
    async with bounded():
        environment = await store.ensure(tiny)
        await run.reached.wait()
        (removal,) = await store.remove("tiny")
    assert removal.kept is None
    assert not environment.folder.exists()


async def test_prune_removes_what_no_worker_needs_any_more(
    store: EnvironmentStore, tiny: Manifest, home: Path, tmp_path: Path, lock: str
) -> None:
    other = write_worker(tmp_path / "workers", "other", lock)
    kept = await built(store, tiny)
    gone_folder = (await built(store, other)).folder
    dead = home / "envs" / f".tmp-{dead_pid()}-00"
    dead.mkdir()
    live = folders.temporary(home / "envs")
    others = home / "envs" / f".tmp-{os.getppid()}-00"
    others.mkdir()
    (home / "envs" / ".old-12345678-tiny-0123456789abcdef").mkdir()
    release = try_lock(home / "locks" / "elsewhere.lock")
    assert release is not None
    removed = {removal.folder for removal in await store.prune([tiny])}
    assert removed == {gone_folder, home / "seed" / Seed(other).digest}
    assert sorted(folder.name for folder in (home / "envs").iterdir()) == sorted(
        [live.name, others.name, kept.folder.name]
    )
    release()
    await store.prune([tiny])
    assert not others.exists(), "while nobody builds, its pid is a stranger's"
    folders.remove_tree(live)
    assert seed_digests(home / "seed") == [Seed(tiny).digest]


def dead_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def test_a_leftover_of_an_earlier_process_with_this_ones_pid_is_swept(tmp_path: Path) -> None:
    """A container that is started again has the same pids."""
    leftover = tmp_path / f".tmp-{os.getpid()}-00"
    leftover.mkdir()
    in_work = folders.temporary(tmp_path)
    folders.sweep(tmp_path, lambda: True)
    assert list(tmp_path.iterdir()) == [in_work]
    folders.remove_tree(in_work)


async def test_what_was_put_aside_stays_while_somebody_runs_from_it(store: EnvironmentStore, tiny: Manifest) -> None:
    environment = await built(store, tiny)
    with worker_of(environment):
        await spoil(environment.folder)
        await built(store, tiny)
        await store.prune([tiny])
        assert len(list(environment.folder.parent.glob(".old-*"))) == 1
    await store.prune([tiny])
    assert list(environment.folder.parent.glob(".old-*")) == []


def test_own_and_shared_bytes_are_told_apart_by_their_links(tmp_path: Path) -> None:
    folder = tmp_path / "folder" / "inner"
    folder.mkdir(parents=True)
    (folder / "own").write_bytes(b"x" * 10)
    (tmp_path / "cache").write_bytes(b"x" * 100)
    (folder / "shared").hardlink_to(tmp_path / "cache")
    (folder / "link").symlink_to(folder / "own")
    size = folders.size_of(tmp_path / "folder")
    assert size.shared == 100
    assert size.own == 10 + (folder / "link").lstat().st_size
    assert size + Size(1, 2) == Size(size.own + 1, 102)


async def test_a_home_without_anything_has_nothing_installed(store: EnvironmentStore) -> None:
    assert store.installed() == []
    assert await store.sizes("tiny") == Size()
    assert await store.prune([]) == []


def test_a_link_is_removed_and_not_what_it_points_to(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    link = tmp_path / "link"
    link.symlink_to(target)
    assert folders.remove_tree(link)
    assert target.is_dir()


def test_what_cannot_be_put_aside_is_kept_and_says_why(tmp_path: Path) -> None:
    (removal,) = folders.remove_unused([tmp_path / "gone"])
    assert "cannot be removed" in str(removal.kept)


async def test_no_name_reaches_outside_of_the_home(store: EnvironmentStore, tiny: Manifest) -> None:
    environment = await built(store, tiny)
    for name in ("../envs", ".", "", "..", f"{environment.folder}", "tiny-", "TINY", "tiny\0"):
        assert await store.remove(name) == []
    assert environment.folder.is_dir()


@pytest.mark.parametrize("word", ["", "python", "/elsewhere/tiny-0/x", "tiny-0"])
def test_words_of_other_processes_mean_nothing(word: str, tmp_path: Path) -> None:
    folder = tmp_path / "tiny-0"
    folder.mkdir()
    assert not folders._lies_in(word, folder)
    assert folders._lies_in(f"{folder}/bin/python", folder)
    (tmp_path / "other").symlink_to(tmp_path)
    assert folders._lies_in(f"{tmp_path}/other/tiny-0/bin/python", folder)


def test_folders_are_for_their_owner_alone(tmp_path: Path) -> None:
    folders.private(tmp_path / "home")
    assert os.name == "nt" or (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    folders.private(tmp_path / "home")


@pytest.mark.parametrize(("owner", "me", "refused"), [(7, 7, False), (0, 7, False), (7, 0, False), (8, 7, True)])
def test_what_belongs_to_another_user_is_not_run_from(owner: int, me: int, refused: bool) -> None:
    """FAULTS S13."""
    assert folders.is_anothers(owner, me) is refused
