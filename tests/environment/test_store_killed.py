"""An install survives a kill of the whole module at any moment, and two modules that install the same at once."""

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support import ensure_once
from support.stores import Watched, open_store, verified
from support.waiting import bounded

from waifu_llm.catalog import Manifest
from waifu_llm.environment.model import Completed, EnvironmentState
from waifu_llm.errors import InstallFailed

_LONG = (pytest.mark.full, pytest.mark.timeout(3600))


@asynccontextmanager
async def installer(
    home: Path, manifest: Manifest, environ: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another module, which installs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ensure_once.__file__),
        str(home),
        str(manifest.folder),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def lines_of(process: asyncio.subprocess.Process) -> list[str]:
    assert process.stdout is not None
    return [line.decode().rstrip() async for line in process.stdout]


@pytest.mark.parametrize("rounds", [12, pytest.param(500, marks=_LONG)])
async def test_a_kill_at_any_moment_leaves_nothing_that_must_be_repaired(
    rounds: int, tiny: Manifest, home: Path, environ: dict[str, str], run: Watched
) -> None:
    """FAULTS E1, P4."""
    points = random.Random(20)
    async with bounded(), installer(home, tiny, environ) as process:
        steps = len(await lines_of(process))
    store = open_store(home, run, environ)
    await store.remove("tiny")
    killed_midway = 0
    for _ in range(rounds):
        async with bounded(), installer(home, tiny, environ) as process:
            assert process.stdout is not None
            for _ in range(points.randrange(steps)):
                await process.stdout.readline()
            # Not only at a step: also a little into it.
            await asyncio.sleep(points.random() * 0.03)
            process.send_signal(signal.SIGKILL)
        status = store.status(tiny)
        assert status.state in (EnvironmentState.MISSING, EnvironmentState.READY)
        if status.state is EnvironmentState.READY:
            verified(status.folder)
        else:
            killed_midway += 1
        async with bounded():
            later = open_store(home, run, environ)
            environment = await later.ensure(tiny)
            verified(environment.folder)
            await later.close()
            await store.remove("tiny")
        assert [folder for folder in (home / "envs").iterdir() if not folder.name.startswith(".tmp-")] == []
    assert killed_midway > rounds // 3, "the kills met installs"
    await store.prune([])
    assert list((home / "envs").iterdir()) == []


@pytest.mark.parametrize("rounds", [3, pytest.param(300, marks=_LONG)])
async def test_two_modules_with_eight_clients_each_build_it_once(
    rounds: int, tiny: Manifest, home: Path, environ: dict[str, str], run: Watched
) -> None:
    """FAULTS E3, P5."""
    store = open_store(home, run, environ)
    for _ in range(rounds):
        async with bounded(), installer(home, tiny, environ) as first, installer(home, tiny, environ) as second:
            one, other = await asyncio.gather(lines_of(first), lines_of(second))
        lines = one + other
        ready = [line for line in lines if line.startswith("ready")]
        assert len(ready) == 16 and len(set(ready)) == 1
        assert len([line for line in lines if line.startswith("run") and line.endswith("pip sync")]) == 1
        await store.remove("tiny")


async def test_one_module_is_killed_while_another_waits_for_its_install(
    tiny: Manifest, home: Path, environ: dict[str, str], run: Watched
) -> None:
    store = open_store(home, run, environ)
    async with bounded(), installer(home, tiny, environ) as process:
        assert process.stdout is not None
        while not (await process.stdout.readline()).startswith(b"run"):
            pass
        waits = asyncio.Event()
        waiting = asyncio.create_task(store.ensure(tiny, lambda step: waits.set()))
        await waits.wait()
        process.send_signal(signal.SIGKILL)
        await waiting
        await store.close()
    assert store.status(tiny).state is EnvironmentState.READY


@pytest.mark.parametrize("program", ["uv", "python"])
async def test_a_kill_of_the_program_that_installs_is_a_failure_and_no_half_environment(
    program: str, tiny: Manifest, home: Path, environ: dict[str, str], run: Watched
) -> None:
    """FAULTS E1 for uv itself: what a signal ended has no exit code 0."""

    run.answer("sync" if program == "uv" else "-I", Completed(-9, "", ""))
    store = open_store(home, run, environ)
    async with bounded():
        with pytest.raises(InstallFailed):
            await store.ensure(tiny)
        await store.close()
    assert list((home / "envs").iterdir()) == []
