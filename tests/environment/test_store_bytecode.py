"""Byte code: the first start of a worker writes what it imports, the rest comes in the background."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.stores import Watched, open_store
from support.waiting import WAIT_S, bounded, until, wait_until

from waifu_llm.catalog import Manifest
from waifu_llm.environment import bytecode, folders
from waifu_llm.environment.bytecode import PROGRAM as COMPILE
from waifu_llm.environment.model import Completed, Environment
from waifu_llm.environment.stamp import STAMP_FILE
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.environment.verify import site_packages
from waifu_llm.supervision.process import Processes

MANY = 4000


def sources(folder: Path) -> set[Path]:
    return set(folder.rglob("*.py"))


def compiled(folder: Path) -> set[Path]:
    """The sources that have byte code."""
    return {file.parent.parent / f"{file.name.split('.')[0]}.py" for file in folder.rglob("__pycache__/*.pyc")}


async def not_compiled_yet(store: EnvironmentStore, tiny: Manifest, run: Watched) -> tuple[Environment, Path]:
    """An environment that waits for its compilation, and a module in it that no start imports."""
    run.hold(COMPILE)
    environment = await store.ensure(tiny)
    await run.reached.wait()
    module = site_packages(environment.folder) / "msgspec" / "never_imported.py"
    await asyncio.to_thread(module.write_text, "answer = 42")
    return environment, module


async def test_the_first_start_writes_what_it_imports_whatever_our_own_variables_say(
    store: EnvironmentStore, tiny: Manifest, run: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    async with bounded():
        environment, module = await not_compiled_yet(store, tiny, run)
    site = site_packages(environment.folder)
    unread = {site / "msgspec" / name for name in ("inspect.py", "_typing_utils.py")}
    assert compiled(site) == sources(site) - {module} - unread
    assert environment.seed / "waifu_worker" / "runtime.py" in compiled(environment.seed)
    assert environment.seed / "waifu_tiny" / "__init__.py" in compiled(environment.seed)


async def test_the_rest_is_compiled_in_the_background_by_whom_everybody_goes_before(
    store: EnvironmentStore, tiny: Manifest, run: Watched
) -> None:
    async with bounded():
        environment, module = await not_compiled_yet(store, tiny, run)
        run.may_go.set()
        await until((environment.folder / "waifu-llm-compiled").exists, "it is compiled")
    assert module in compiled(module.parent)
    (command,) = [command for command in run.commands if COMPILE in command]
    assert str(environment.folder) not in " ".join(command)
    assert run.more[run.commands.index(command)]["nice"] == 19


async def test_its_byte_code_names_the_files_as_they_are_found(
    store: EnvironmentStore, tiny: Manifest, run: Watched
) -> None:
    async with bounded():
        environment, module = await not_compiled_yet(store, tiny, run)
        run.may_go.set()
        await until((environment.folder / "waifu-llm-compiled").exists, "it is compiled")
    (byte_code,) = (module.parent / "__pycache__").glob("never_imported.*.pyc")
    assert str(module).encode() in byte_code.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="priorities there are no numbers")
async def test_a_command_runs_as_nicely_as_it_is_told_to() -> None:
    told = "import os\nwhile os.getpriority(os.PRIO_PROCESS, 0) != 7: pass"
    async with Processes() as processes, bounded():
        done = await processes.run([sys.executable, "-c", told], env={"PATH": os.defpath}, nice=7)
    assert done.returncode == 0


async def test_another_environment_in_the_place_of_the_one_that_was_compiled_is_not_taken_for_it(
    store: EnvironmentStore, tiny: Manifest, run: Watched
) -> None:
    run.hold(COMPILE)
    run.answer(COMPILE, Completed(0, "", ""))
    async with bounded():
        environment = await store.ensure(tiny)
        await run.reached.wait()
        old = folders.put_aside(environment.folder)
        environment.folder.mkdir()
        run.may_go.set()
        await until(lambda: not store._compiling, "it is over")
    assert list(environment.folder.iterdir()) == []
    folders.remove_tree(old)


def large_environment(folder: Path) -> Path:
    """One that takes a while to compile; its packages."""
    site = folder / "packages"
    site.mkdir(parents=True)
    (folder / STAMP_FILE).touch()
    for number in range(MANY):
        (site / f"module{number}.py").write_text(f"def answer():\n    return {number}\n")
    return site


@pytest.fixture
def large(tmp_path: Path) -> Path:
    folder = tmp_path / "envs" / "large-0123456789abcdef"
    large_environment(folder)
    return folder


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = bytecode.environment({"PATH": os.defpath}, folder, folder / "packages")
    return subprocess.Popen(bytecode.command(sys.executable), env=environment, stdin=subprocess.DEVNULL)


@pytest.mark.skipif(sys.platform == "win32", reason="a folder that somebody works in cannot be moved there")
def test_an_environment_can_be_removed_while_it_is_compiled(large: Path) -> None:
    with start(large) as process:
        wait_until(lambda: bool(compiled(large)), "some of it is compiled")
        (removal,) = folders.remove_unused([large])
        assert process.wait(WAIT_S) == 1
    assert removal.kept is None
    assert list(large.parent.iterdir()) == []


def test_what_is_no_python_does_not_end_it(tmp_path: Path) -> None:
    site = tmp_path / "packages"
    site.mkdir()
    (tmp_path / STAMP_FILE).touch()
    (site / "template.py").write_text("{{ this is a template }}")
    (site / "whole.py").write_text("answer = 42")
    with start(tmp_path) as process:
        assert process.wait(WAIT_S) == 0
    assert compiled(site) == {site / "whole.py"}


async def test_it_ends_with_the_store(large: Path, store: EnvironmentStore, tiny: Manifest, run: Watched) -> None:
    async with bounded():
        environment, _ = await not_compiled_yet(store, tiny, run)
        many = site_packages(environment.folder) / "many"
        await asyncio.to_thread((large / "packages").rename, many)
        run.may_go.set()
        await until(lambda: bool(compiled(many)), "some of it is compiled")
        await store.close()
        number = len(compiled(many))
    assert number < MANY
    assert len(compiled(many)) == number
    assert not (environment.folder / "waifu-llm-compiled").exists()


async def test_another_module_can_uninstall_what_this_one_compiles(
    large: Path, store: EnvironmentStore, tiny: Manifest, run: Watched, home: Path, environ: dict[str, str]
) -> None:
    async with bounded():
        environment, _ = await not_compiled_yet(store, tiny, run)
        many = site_packages(environment.folder) / "many"
        await asyncio.to_thread((large / "packages").rename, many)
        run.may_go.set()
        await until(lambda: bool(compiled(many)), "some of it is compiled")
        (removal,) = await open_store(home, run, environ).remove("tiny")
        await until(lambda: not store._compiling, "it is over")
    assert removal.kept is None
    assert list((home / "envs").iterdir()) == []
