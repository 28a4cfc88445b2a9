"""One build, however many ask; and what a store says about what lies on the disk."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest
from support.stores import PROVIDER, Watched, open_store, verified, write_worker
from support.waiting import bounded, until

from waifu_llm.catalog import Manifest
from waifu_llm.environment.bytecode import PROGRAM as COMPILE
from waifu_llm.environment.model import BuildProgress, EnvironmentState
from waifu_llm.environment.stamp import STAMP_FILE, recorded
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.errors import Closing


async def test_a_missing_environment_is_built_verified_and_started_once(
    store: EnvironmentStore, tiny: Manifest, run: Watched
) -> None:
    assert store.status(tiny).state is EnvironmentState.MISSING
    steps: list[BuildProgress] = []
    async with bounded():
        environment = await store.ensure(tiny, steps.append)
    assert store.status(tiny).state is EnvironmentState.READY
    assert environment.folder.name.startswith("tiny-")
    assert (environment.seed / "__main__.py").is_file()
    assert run.count("sync") == 1
    assert [step.fraction for step in steps if step.fraction is not None] == sorted(
        step.fraction for step in steps if step.fraction is not None
    )
    stamp = recorded((environment.folder / STAMP_FILE).read_bytes())
    assert stamp.name == "tiny" and stamp.version.startswith(stamp.basis.python)


async def test_the_worker_that_a_build_starts_once_is_a_child_of_the_module_itself(
    run: Watched, home: Path, tmp_path: Path, lock: str, environ: dict[str, str]
) -> None:
    """I3: below another process it stayed as a zombie, of ten seconds in a chaos run, where it died and that froze."""
    parent = tmp_path / "parent"
    noted = f"import os\nwith open({str(parent)!r}, 'w') as file:\n    file.write(str(os.getppid()))\n"
    manifest = write_worker(tmp_path, "noting", lock, provider=PROVIDER + noted)
    store = open_store(home, run, environ)
    async with bounded():
        await store.ensure(manifest)
        await store.close()
    assert parent.read_text() == str(os.getpid())


async def test_a_ready_environment_runs_nothing(store: EnvironmentStore, tiny: Manifest, run: Watched) -> None:
    async with bounded():
        first = await store.ensure(tiny)
        before = [command for command in run.commands if "compileall" not in command[-1]]
        assert await store.ensure(tiny) == first
    assert [command for command in run.commands if "compileall" not in command[-1]] == before


async def test_another_module_finds_it_ready_without_an_index_and_without_uv(
    store: EnvironmentStore, tiny: Manifest, run: Watched, home: Path
) -> None:
    async with bounded():
        first = await store.ensure(tiny)
        await until(lambda: (first.folder / "waifu-llm-compiled").exists(), "it is compiled")
        run.commands.clear()
        later = open_store(home, run, {"PATH": os.environ["PATH"], "UV_OFFLINE": "1"})
        assert await later.ensure(tiny) == first
        assert run.commands == []
        await later.close()


async def test_however_many_ask_one_build_serves_them_all(
    store: EnvironmentStore, tiny: Manifest, run: Watched
) -> None:
    run.hold("sync")
    heard: list[list[BuildProgress]] = [[] for _ in range(8)]
    async with bounded():
        waiting = [asyncio.create_task(store.ensure(tiny, steps.append)) for steps in heard[:7]]
        await run.reached.wait()
        waiting.append(asyncio.create_task(store.ensure(tiny, heard[7].append)))
        run.may_go.set()
        environments = await asyncio.gather(*waiting)
    assert len(set(environments)) == 1
    assert run.count("sync") == 1
    assert all(heard), "each of them hears how far it is, the late comer too"


async def test_a_waiter_that_leaves_stops_nothing(store: EnvironmentStore, tiny: Manifest, run: Watched) -> None:
    run.hold("sync")
    async with bounded():
        waiter = asyncio.create_task(store.ensure(tiny))
        await run.reached.wait()
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        run.may_go.set()
        await store.ensure(tiny)
    assert run.count("sync") == 1


async def test_the_stop_of_the_module_ends_a_build_and_removes_what_it_began(
    store: EnvironmentStore, tiny: Manifest, run: Watched, home: Path
) -> None:
    run.hold("sync")
    async with bounded():
        waiter = asyncio.create_task(store.ensure(tiny))
        await run.reached.wait()
        assert list((home / "envs").glob(".tmp-*"))
        await store.close()
        with pytest.raises(Closing):
            await waiter
        with pytest.raises(Closing):
            await store.ensure(tiny)
    assert list((home / "envs").iterdir()) == []


async def test_a_stop_at_the_very_end_leaves_a_whole_environment_or_none(
    tiny: Manifest, run: Watched, home: Path, environ: dict[str, str]
) -> None:
    """What runs in a thread cannot be cancelled: nothing may be removed under it while it renames."""
    for turns in (0, 1, 2, 3, 5, 8):
        store = open_store(home, run, environ)
        run.tell_end("until_line")
        async with bounded():
            waiter = asyncio.create_task(store.ensure(tiny))
            await run.ended.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            await store.close()
            await asyncio.wait({waiter})
            assert waiter.exception() is None or isinstance(waiter.exception(), Closing)
        status = store.status(tiny)
        assert status.state in (EnvironmentState.MISSING, EnvironmentState.READY)
        if status.state is EnvironmentState.READY:
            verified(status.folder)
            await store.remove("tiny")
        assert list((home / "envs").iterdir()) == []


async def test_a_stop_before_the_build_began_leaves_nobody_waiting(store: EnvironmentStore, tiny: Manifest) -> None:
    async with bounded():
        waiter = asyncio.create_task(store.ensure(tiny))
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(Closing):
            await waiter


async def test_different_environments_do_not_wait_for_each_other(
    store: EnvironmentStore, tiny: Manifest, run: Watched, tmp_path: Path, lock: str
) -> None:
    other = write_worker(tmp_path / "workers", "other", lock + "# another lock\n")
    run.hold("sync")
    async with bounded():
        hanging = asyncio.create_task(store.ensure(tiny))
        await run.reached.wait()
        run.hold("nothing")
        await store.ensure(other)
        assert not hanging.done()


async def test_a_stop_while_it_compiles_ends_that_too(store: EnvironmentStore, tiny: Manifest, run: Watched) -> None:
    run.hold(COMPILE)
    async with bounded():
        environment = await store.ensure(tiny)
        await run.reached.wait()
        await store.close()
    assert not (environment.folder / "waifu-llm-compiled").exists()


@pytest.mark.parametrize("name", ["with a space", "ünïcode-家", "quo'te"])
async def test_any_path_will_do(
    name: str, tmp_path: Path, tiny: Manifest, run: Watched, environ: dict[str, str]
) -> None:
    moved = shutil.move(tiny.folder.parent, tmp_path / name / "workers")
    store = open_store(tmp_path / name / "home", run, environ)
    manifest = write_worker(Path(moved), "second", tiny_lock(Path(moved)))
    async with bounded():
        environment = await store.ensure(manifest)
        await store.close()
    assert environment.python.exists()


def tiny_lock(workers: Path) -> str:
    return (workers / "tiny" / "requirements.lock").read_text()


async def test_another_lock_makes_it_stale_and_the_old_one_stays(store: EnvironmentStore, tiny: Manifest) -> None:
    async with bounded():
        old = await store.ensure(tiny)
        tiny.lock.write_text(tiny.lock.read_text() + "# changed\n")
        assert store.status(tiny).state is EnvironmentState.STALE
        new = await store.ensure(tiny)
    assert new.folder != old.folder
    assert {entry.folder for entry in store.installed()} == {old.folder, new.folder}


async def test_a_deleted_environment_is_built_again(store: EnvironmentStore, tiny: Manifest, run: Watched) -> None:
    async with bounded():
        environment = await store.ensure(tiny)
        shutil.rmtree(environment.folder)
        shutil.rmtree(environment.seed)
        assert await store.ensure(tiny) == environment
    assert run.count("sync") == 2
    assert environment.python.exists() and environment.seed.is_dir()


async def test_a_damaged_seed_is_written_again(
    home: Path, run: Watched, environ: dict[str, str], tiny: Manifest
) -> None:
    async with bounded():
        first = open_store(home, run, environ)
        environment = await first.ensure(tiny)
        await first.close()
        whole = (environment.seed / "__main__.py").read_bytes()
        (environment.seed / "__main__.py").write_bytes(b"")
        second = open_store(home, run, environ)
        assert (await second.ensure(tiny)).seed == environment.seed
        await second.close()
    assert (environment.seed / "__main__.py").read_bytes() == whole


async def test_the_interpreter_is_the_one_that_ours_was_made_from(store: EnvironmentStore, tiny: Manifest) -> None:
    async with bounded():
        environment = await store.ensure(tiny)
    assert environment.python.samefile(sys.executable)


async def test_no_variable_of_the_core_reaches_uv_or_the_first_start(
    tiny: Manifest, run: Watched, home: Path, environ: dict[str, str], canary: str
) -> None:
    environ |= {"OPENAI_API_KEY": canary, "PYTHONDONTWRITEBYTECODE": "1", "VIRTUAL_ENV": "/v", "PYTHONPATH": "/p"}
    environ |= {"UV_EXTRA_INDEX_URL": "https://evil.example", "UV_INDEX_STRATEGY": "unsafe-best-match"}
    store = open_store(home, run, environ)
    async with bounded():
        await store.ensure(tiny)
        await store.close()
    for seen in run.environments:
        assert canary not in seen.values()
        assert not [name for name in seen if name.startswith("PYTHON") or name == "VIRTUAL_ENV"]
        assert not {"UV_EXTRA_INDEX_URL", "UV_INDEX_STRATEGY"} & seen.keys()
