"""Installs with the real uv where something real goes wrong: FAULTS E1, E6, E8 to E10."""

import asyncio
import contextlib
import functools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import ensure_once, small_disk
from support.package_index import PackageIndex, serving
from support.stores import Watched, built, open_store, verified, wheel_of_installed, write_wheel, write_worker
from support.waiting import WAIT_S, bounded, until

from waifu_llm.catalog import Manifest
from waifu_llm.config import UvSettings
from waifu_llm.environment.model import Completed, EnvironmentState, Run
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.environment.uv import find_uv
from waifu_llm.errors import InstallFailed
from waifu_llm.paths import Home
from waifu_llm.supervision.process import Processes

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals, modes and mounts as they are here are POSIX")
_LONG = (pytest.mark.full, pytest.mark.timeout(3600))
_MB = 1024 * 1024


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# E1: kill -9 of uv.


class Killing:
    """A `Run` that kills the uv it started, at most `wait_s` after its start, where `aim` tells it to."""

    def __init__(self, run: Run, folder: Path) -> None:
        self._run = run
        self._pid = folder / "pid-of-uv"
        self._aim: str | None = None
        self._wait_s = 0.0
        self.killed = 0
        self.program = folder / "uv-with-a-pid"
        self.program.write_text(f'#!/bin/sh\necho $$ > {self._pid}\nexec {find_uv()} "$@"\n')
        self.program.chmod(0o700)

    def aim(self, word: str | None, wait_s: float) -> None:
        """At the next command with that word."""
        self._aim, self._wait_s = word, wait_s

    async def __call__(self, argv: Sequence[str], *, env: Mapping[str, str], **more: Any) -> Completed:
        self._pid.unlink(missing_ok=True)
        running = asyncio.ensure_future(self._run(argv, env=env, **more))
        if self._aim in argv:
            self._aim = None
            await until(lambda: running.done() or self._has_pid(), "uv runs")
            # Not only at its start: also a little into it.
            await asyncio.wait({running}, timeout=self._wait_s)
            if not running.done():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(self._pid.read_text()), signal.SIGKILL)
                    self.killed += 1
        return await running

    def _has_pid(self) -> bool:
        return self._pid.exists() and self._pid.read_text().endswith("\n")


@posix
@pytest.mark.parametrize("rounds", [8, pytest.param(200, marks=_LONG)])
async def test_e1_p4_a_kill_of_uv_at_any_moment_leaves_nothing_that_must_be_repaired(
    rounds: int,
    tmp_path: Path,
    home: Path,
    lock: str,
    msgspec_wheel: tuple[Path, str],
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = {f"many/m{number}.py": b"good = True\n" for number in range(40)}
    manifest = write_worker(tmp_path / "w", "tiny", lock + write_wheel(msgspec_wheel[0], "many", "1.0", many))
    chance = random.Random(1)
    async with Processes() as processes:
        killing = Killing(processes.run, tmp_path)
        monkeypatch.setattr("waifu_llm.environment.uv.find_uv", lambda: str(killing.program))
        store = open_store(home, killing, environ)
        for _ in range(rounds):
            killing.aim(chance.choice(["venv", "sync", "sync"]), chance.random() * 0.03)
            async with bounded():
                with contextlib.suppress(InstallFailed):
                    await store.ensure(manifest)
                status = store.status(manifest)
                if status.state is EnvironmentState.READY:
                    verified(status.folder)
                else:
                    assert entries(home / "envs") == []
                killing.aim(None, 0)
                verified((await store.ensure(manifest)).folder)
                await store.remove("tiny")
        await store.close()
    assert killing.killed > rounds // 3, "the kills met installs"


# E6, E10: disks.


def on_disk(
    kind: str, home: Path, environ: Mapping[str, str], *manifests: Manifest
) -> tuple[str, list[dict[str, Any]]]:
    """Install there; how each ended. Where no disk can be mounted the files are limited in size instead."""
    program = [sys.executable, small_disk.__file__, str(home)]
    workers = [str(manifest.folder) for manifest in manifests]
    path = os.pathsep.join([str(Path(small_disk.__file__).parents[1]), environ.get("PYTHONPATH", "")])
    can_mount = mounts()
    argv = [*can_mount, *program, kind, *workers] if can_mount else [*program, "none", *workers]
    done = subprocess.run(
        argv, env={**environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return kind if can_mount else "none", json.loads(done.stdout)


@functools.cache
def mounts() -> list[str]:
    """What to put before a program that is to mount something nobody else sees; empty where that is not allowed."""
    for argv in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        with contextlib.suppress(OSError):
            done = subprocess.run([*argv, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
            if done.returncode == 0:
                return argv
    return []


@posix
def test_e6_a_disk_that_is_full_is_said_as_such_and_the_environments_that_are_there_stay(
    tmp_path: Path, home: Path, lock: str, msgspec_wheel: tuple[Path, str], environ: dict[str, str]
) -> None:
    large = {f"large/{number}.bin": os.urandom(12 * _MB) for number in range(3)}
    line = write_wheel(msgspec_wheel[0], "large", "1.0", large)
    old = write_worker(tmp_path / "old", "tiny", lock)
    new = write_worker(tmp_path / "new", "tiny", lock + line)
    kind, (first, second, third) = on_disk("small", home, environ, old, new, old)
    assert (first["error"], first["state"]) == (None, "ready")
    if kind == "small":
        assert "disk is full" in second["error"] and "20000000 bytes" in second["error"]
    else:
        assert "File too large" in second["error"] or "could not install" in second["error"]
    assert len(second["error"]) <= 300
    assert (second["envs"], second["hidden"], second["state"]) == (["tiny"], [], "stale")
    assert (third["error"], third["state"]) == (None, "ready"), "the old one is still there"


@posix
def test_e10_a_disk_that_cannot_be_written_is_said_as_such(tiny: Manifest, home: Path, environ: dict[str, str]) -> None:
    kind, (end,) = on_disk("read-only", home, environ, tiny)
    if kind == "read-only":
        assert "Read-only file system" in end["error"] and "WAIFU_LLM_HOME" in end["error"]
        assert (end["envs"], end["state"]) == ([], "missing")


@posix
@pytest.mark.parametrize("name", ["a" * 60, "ünï cödé 家 'quoted' \"twice\" $HOME `ls`"])
async def test_e10_a_path_of_240_characters_and_one_of_strange_ones_will_do(
    name: str, tmp_path: Path, lock: str, run: Watched, environ: dict[str, str]
) -> None:
    deep = tmp_path / "workers-and-home" / name
    while len(str(deep)) < 240 - 61:
        deep = deep / ("d" * 40)
    deep = deep / ("e" * max(1, 240 - len(str(deep)) - len("/home") - 1))
    home = deep / "home"
    assert len(str(home)) >= 240
    scripts = {
        "tool.py": b"def main() -> None:\n    print('it runs')\n",
        "tool-1.0.dist-info/entry_points.txt": b"[console_scripts]\ntool = tool:main\n",
    }
    wheels = Path(environ["UV_FIND_LINKS"])
    manifest = write_worker(tmp_path / "w", "tiny", lock + write_wheel(wheels, "tool", "1.0", scripts))
    environment = await built(store := open_store(home, run, environ), manifest)
    await store.close()
    verified(environment.folder)
    done = await run([str(environment.python.with_name("tool"))], env=environ)
    assert done.stdout == "it runs\n", "its scripts find their Python, however long the path to it is"


# E8, E9: uv and Python.


@posix
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 101", "does not say its version"),
        ("echo 'uv 0.13.9'; test \"$1\" = --version && exit; echo 'thread main panicked' >&2; exit 101", "panicked"),
        ("test \"$1\" = --version && echo 'uv 0.13.9' && exit; exec sleep 1000", "said nothing"),
        ("exec /nowhere/uv", "does not say its version"),
        (None, "cannot be started"),
    ],
)
async def test_e8_a_uv_that_crashes_or_hangs_or_is_none_is_a_clear_failure(
    script: str | None,
    words: str,
    tiny: Manifest,
    home: Path,
    run: Watched,
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = tmp_path / "uv"
    fake.write_text(f"#!/bin/sh\n{script}\n" if script is not None else "")
    fake.chmod(0o700 if script is not None else 0o600)
    monkeypatch.setattr("waifu_llm.environment.uv.find_uv", lambda: str(fake))
    store = EnvironmentStore(Home(home), UvSettings(), run, environ, build_silence_s=0.2)
    async with bounded():
        with pytest.raises(InstallFailed, match=words):
            await store.ensure(tiny)
        await store.close()
    assert entries(home / "envs") == []


async def test_e9_a_python_that_is_gone_is_never_downloaded(
    tiny: Manifest, home: Path, run: Watched, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waifu_llm.environment.build._base_python", lambda: str(tmp_path / "gone" / "python3.11"))
    (tmp_path / "mirror").mkdir()
    with serving(PackageIndex(tmp_path / "mirror")) as mirror:
        environ |= {"UV_PYTHON_INSTALL_MIRROR": mirror.address, "UV_PYTHON_DOWNLOADS": "automatic"}
        store = open_store(home, run, environ)
        async with bounded():
            with pytest.raises(InstallFailed):
                await store.ensure(tiny)
            await store.close()
        assert mirror.asked == []
    assert entries(home / "envs") == []


@functools.cache
def without_network() -> list[str]:
    """What to put before a program that is to have no network at all; empty where that is not allowed."""
    with contextlib.suppress(OSError):
        argv = ["unshare", "--map-root-user", "--net"]
        if subprocess.run([*argv, "true"], capture_output=True, check=False).returncode == 0:
            return argv
    return []


async def test_e9_without_any_network_what_uv_has_in_its_cache_is_installed_and_the_rest_fails_at_once(
    home: Path, tmp_path: Path
) -> None:
    wheels = tmp_path / "own"
    wheels.mkdir()
    manifest = write_worker(tmp_path / "w", "tiny", wheel_of_installed(wheels, "msgspec"))
    environ = {**os.environ, "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_HTTP_RETRIES": "0"}
    with serving(PackageIndex(wheels)) as index:
        environ["UV_DEFAULT_INDEX"] = index.simple
        async with Processes() as processes:
            store = open_store(home, processes.run, environ)
            await built(store, manifest)
            await store.remove("tiny")
            await store.close()
    program = [*without_network(), sys.executable, ensure_once.__file__, str(home)]
    cached = await asyncio.to_thread(_ended, [*program, str(manifest.folder)], environ)
    assert cached.returncode == 0 and "ready" in cached.stdout, cached.stderr
    more = write_worker(tmp_path / "m", "more", write_wheel(tmp_path, "absent", "1.0", {}))
    absent = await asyncio.to_thread(_ended, [*program, str(more.folder)], environ)
    assert absent.returncode == 1 and "check the network, proxy or index" in absent.stderr
    assert len(entries(home / "envs")) == 1


def _ended(argv: list[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=WAIT_S, check=False)
