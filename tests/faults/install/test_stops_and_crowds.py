"""Many who install at once, and stops that wait for no disk: FAULTS E2 to E4, E11, E13, P5, R9."""

import asyncio
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.pretend_uv import PretendUv
from support.stores import open_store, verified, write_worker
from support.waiting import WAIT_S, bounded, until, wait_until

from waifu_llm.catalog import Manifest
from waifu_llm.environment import build, folders, thread
from waifu_llm.environment.model import EnvironmentState
from waifu_llm.environment.thread import Halt, Halted, in_thread
from waifu_llm.environment.verify import site_packages
from waifu_llm.errors import Closing


class Gate:
    """Stands before a function: whoever calls it waits until it is opened."""

    def __init__(self, behind: Callable[..., Any], calls_let_through: int = 0) -> None:
        self.reached = threading.Event()
        self._opened = threading.Event()
        self._behind = behind
        self._let_through = calls_let_through

    def open(self) -> None:
        self._opened.set()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._let_through -= 1
        if self._let_through < 0:
            self.reached.set()
            assert self._opened.wait(WAIT_S)
        return self._behind(*args, **kwargs)


@contextmanager
def gate(owner: object, name: str, calls_let_through: int = 0) -> Iterator[Gate]:
    """A gate before `owner.name`; at the end it is open and the thread that waited is over."""
    made = Gate(getattr(owner, name), calls_let_through)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, made)
        try:
            yield made
        finally:
            made.open()
            wait_until(lambda: not disk_threads(), "no thread works on the disk")


def disk_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == thread._NAME]


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


# Threads that nobody waits for.


async def test_a_thread_gives_its_result_and_its_error() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


@pytest.mark.parametrize("raised", [SystemExit(3), StopIteration()])
async def test_who_waits_for_a_thread_hears_of_every_end_of_it(raised: BaseException) -> None:
    def give_up() -> None:
        raise raised

    with pytest.raises(RuntimeError, match=type(raised).__name__) as told:
        async with bounded():
            await in_thread(give_up)
    assert told.value.__cause__ is raised


async def test_who_is_cancelled_does_not_wait_for_his_thread() -> None:
    with gate(os, "getcwd") as held:
        waiting = asyncio.create_task(in_thread(os.getcwd))
        async with bounded():
            await until(held.reached.is_set, "it is at work")
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert len(disk_threads()) == 1


def test_a_thread_that_outlives_its_loop_disturbs_nobody() -> None:
    async def leave() -> None:
        asyncio.ensure_future(in_thread(os.getcwd)).cancel()
        waiting = asyncio.ensure_future(in_thread(os.getcwd))
        await until(held.reached.is_set, "it is at work")
        waiting.cancel()

    with gate(os, "getcwd") as held:
        asyncio.run(leave())
        assert len(disk_threads()) == 1


def test_a_last_step_is_done_before_a_halt_returns_or_never() -> None:
    halt = Halt()
    inside, leave, order = threading.Event(), threading.Event(), []

    def step() -> None:
        with halt.last_step():
            inside.set()
            assert leave.wait(WAIT_S)
            order.append("step")

    def stop() -> None:
        halt.set()
        order.append("halt")

    threads = [threading.Thread(target=step), threading.Thread(target=stop)]
    threads[0].start()
    assert inside.wait(WAIT_S)
    threads[1].start()
    leave.set()
    for one in threads:
        one.join(WAIT_S)
    assert order == ["step", "halt"]
    with pytest.raises(Halted), halt.last_step():
        raise AssertionError("too late")


# Stops.


async def test_e11_r9_a_stop_does_not_wait_for_a_disk_that_is_slow_to_keep_a_file(tiny: Manifest, home: Path) -> None:
    uv = PretendUv(files={f"dep/{number}.py": b"x" * number for number in range(20)})
    store = open_store(home, uv, {})
    with gate(os, "fsync") as held:
        waiting = asyncio.create_task(store.ensure(tiny))
        async with bounded():
            await until(held.reached.is_set, "it verifies")
            await store.close()
            with pytest.raises(Closing):
                await waiting
    assert entries(home / "envs") == []


@pytest.mark.parametrize(("synced", "state"), [(0, EnvironmentState.MISSING), (1, EnvironmentState.READY)])
async def test_e11_r9_a_stop_at_the_rename_leaves_a_whole_environment_or_none(
    synced: int, state: EnvironmentState, tiny: Manifest, home: Path
) -> None:
    """The folder is put on the disk before the rename, its parent after it."""
    store = open_store(home, PretendUv(), {})
    with gate(build, "_sync_folder", synced) as held:
        waiting = asyncio.create_task(store.ensure(tiny))
        async with bounded():
            await until(held.reached.is_set, "it is about to be done")
            await store.close()
            with pytest.raises(Closing):
                await waiting
        held.open()
    status = store.status(tiny)
    assert status.state is state
    assert entries(home / "envs") == ([status.folder] if state is EnvironmentState.READY else [])


async def test_e11_r9_a_stop_leaves_what_takes_long_to_remove_to_the_next_start(
    tiny: Manifest, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waifu_llm.environment.store._REMOVAL_S", 0.01)
    uv = PretendUv()
    uv.hanging.add("tiny")
    store = open_store(home, uv, {})
    waiting = asyncio.create_task(store.ensure(tiny))
    async with bounded():
        await until(lambda: uv.starts == 1, "it is started once")
        with gate(shutil, "rmtree") as held:
            await store.close()
            with pytest.raises(Closing):
                await waiting
            await until(held.reached.is_set, "it is being removed")
            (left,) = entries(home / "envs")
            # As after a kill: nothing is being removed, and the module that made it is gone.
            leftover = left.with_name(".tmp-999999999-00")
            left.rename(leftover)
    later = open_store(home, PretendUv(), {})
    later.start()
    async with bounded():
        await until(lambda: entries(home / "envs") == [], "it is swept")
        await later.close()


# Crowds.


async def test_e3_p5_two_modules_with_eight_clients_each_install_once_in_whatever_order(
    tiny: Manifest, home: Path
) -> None:
    """20 rounds; in every third, one of the two stops at a random moment and comes back."""
    chance = random.Random(5)
    for number in range(20):
        uv = PretendUv(chance)
        stores = [open_store(home, uv, {}) for _ in range(2)]
        waiting = [[asyncio.create_task(store.ensure(tiny)) for _ in range(8)] for store in stores]
        async with bounded():
            stops = number % 3 == 0
            if stops:
                for _ in range(chance.randrange(60)):
                    await asyncio.sleep(0)
                await stores[0].close()
                stores[0] = open_store(home, uv, {})
                waiting[0] += [asyncio.create_task(stores[0].ensure(tiny)) for _ in range(8)]
            results = await asyncio.gather(*waiting[0], *waiting[1], return_exceptions=True)
            for store in stores:
                await store.close()
        good = {result for result in results if not isinstance(result, BaseException)}
        assert len(good) == 1
        assert all(isinstance(result, Closing) for result in results[:8] if isinstance(result, BaseException))
        assert not [result for result in results[8:] if isinstance(result, BaseException)]
        assert uv.installs == 1 or (stops and uv.installs == 2)
        (environment,) = good
        verified(environment.folder)
        assert entries(home / "envs") == [environment.folder]
        shutil.rmtree(home / "envs")


async def test_e4_five_providers_are_installed_at_once_and_one_that_hangs_delays_none(
    home: Path, tmp_path: Path, lock: str
) -> None:
    manifests = [write_worker(tmp_path / "workers", f"p{number}", f"{lock}# {number}\n") for number in range(5)]
    uv = PretendUv()
    uv.hanging.add("p2")
    store = open_store(home, uv, {})
    async with bounded():
        waiting = [asyncio.create_task(store.ensure(manifest)) for manifest in manifests]
        hanging = waiting.pop(2)
        await asyncio.gather(*waiting)
        assert not hanging.done()
        await store.close()
        with pytest.raises(Closing):
            await hanging
    assert len(entries(home / "envs")) == 4


# What somebody removed.


@pytest.mark.parametrize("where", ["dep/1.py", "dep-1.0.dist-info/RECORD", "all", "python"])
async def test_e13_what_was_removed_from_an_environment_is_found_by_the_next_load(
    where: str, tiny: Manifest, home: Path
) -> None:
    uv = PretendUv(files={f"dep/{number}.py": b"" for number in range(3)})
    store = open_store(home, uv, {})
    async with bounded():
        environment = await store.ensure(tiny)
        match where:
            case "all":
                shutil.rmtree(site_packages(environment.folder))
            case "python":
                environment.python.unlink()
            case _:
                (site_packages(environment.folder) / where).unlink()
        assert await store.ensure(tiny) == environment
        await store.close()
    assert uv.installs == 2
    verified(environment.folder)


async def test_e13_another_module_finds_it_as_well_and_a_stop_meanwhile_is_a_stop(tiny: Manifest, home: Path) -> None:
    uv = PretendUv()
    store = open_store(home, uv, {})
    async with bounded():
        environment = await store.ensure(tiny)
        (site_packages(environment.folder) / "dep.py").unlink()
        with gate(os.path, "lexists") as held:
            waiting = asyncio.create_task(store.ensure(tiny))
            await until(held.reached.is_set, "it looks")
            await store.close()
            held.open()
            with pytest.raises(Closing):
                await waiting
        other = open_store(home, uv, {})
        assert await other.ensure(tiny) == environment
        await other.close()
    assert uv.installs == 2


async def test_e13_an_environment_of_an_older_release_has_no_list_and_is_believed(tiny: Manifest, home: Path) -> None:
    store = open_store(home, PretendUv(), {})
    async with bounded():
        environment = await store.ensure(tiny)
        stamp = environment.folder / "waifu-llm-stamp.json"
        stamp.write_text(stamp.read_text().replace('"dep-1.0"', ""))
        (site_packages(environment.folder) / "dep.py").unlink()
        assert await store.ensure(tiny) == environment
        await store.close()


def test_a_folder_that_is_being_built_is_nobodys_leftover(tmp_path: Path) -> None:
    building = folders.temporary(tmp_path)
    folders.sweep(tmp_path, lambda: False)
    assert building.is_dir()
    folders.remove_tree(building)
