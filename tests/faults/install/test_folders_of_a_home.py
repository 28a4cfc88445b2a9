"""Whose the folders are that programs are run from: FAULTS S13, and what is left in them by the dead: E1."""

import errno
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.pretend_uv import PretendUv
from support.stores import open_store
from support.waiting import bounded, until

from waifu_llm import log
from waifu_llm.catalog import Manifest
from waifu_llm.environment import folders
from waifu_llm.environment.model import EnvironmentState
from waifu_llm.environment.sharing import try_lock
from waifu_llm.errors import InstallFailed
from waifu_llm.paths import Home
from waifu_llm.private_files import PrivateFileError
from waifu_llm.runfile import running_modules, write_run_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and modes as they are here are POSIX")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def mode_of(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


@pytest.mark.parametrize("level", ["envs", "locks", "seed"])
async def test_s13_a_link_in_the_place_of_a_folder_is_never_installed_into(
    level: str, tiny: Manifest, home: Path, elsewhere: Path
) -> None:
    link(home / level, elsewhere)
    store = open_store(home, PretendUv(), {})
    async with bounded():
        with pytest.raises(InstallFailed, match=f"{level} is a link"):
            await store.ensure(tiny)
        await store.close()
    assert entries(elsewhere) == []


async def test_s13_a_link_in_the_place_of_an_environment_is_put_away_and_not_followed(
    tiny: Manifest, home: Path, elsewhere: Path
) -> None:
    store = open_store(home, PretendUv(), {})
    folder = store.status(tiny).folder
    link(folder, elsewhere)
    async with bounded():
        environment = await store.ensure(tiny)
        await store.close()
    assert environment.folder == folder and not folder.is_symlink()
    assert entries(elsewhere) == []


async def test_s13_a_link_in_the_place_of_a_seed_is_put_away_and_not_followed(
    tiny: Manifest, home: Path, elsewhere: Path
) -> None:
    first = open_store(home, PretendUv(), {})
    async with bounded():
        seed = (await first.ensure(tiny)).seed
        await first.close()
        seed.rename(elsewhere / "old")
        seed.symlink_to(elsewhere)
        second = open_store(home, PretendUv(), {})
        assert (await second.ensure(tiny)).seed == seed
        await second.close()
    assert not seed.is_symlink() and (seed / "__main__.py").is_file()


def test_s13_a_link_in_the_place_of_the_run_files_folder_gets_no_token(
    home: Path, elsewhere: Path, canary: str
) -> None:
    home.mkdir()
    (home / "run").symlink_to(elsewhere)
    with pytest.raises(PrivateFileError, match="is a link"):
        write_run_file(Home(home), "ws://127.0.0.1:1", canary)
    assert entries(elsewhere) == []


def test_s13_a_link_in_the_place_of_the_logs_folder_gets_no_line(home: Path, elsewhere: Path) -> None:
    home.mkdir()
    (home / "logs").symlink_to(elsewhere)
    with pytest.raises(OSError, match="its folder is a link"):
        log.sinks.Files().append(home / "logs" / "tiny.log", "a line\n")
    assert entries(elsewhere) == []


async def test_s13_the_home_itself_may_be_a_link(tiny: Manifest, home: Path, elsewhere: Path) -> None:
    """Whoever moves it to a larger disk makes one."""
    link(home, elsewhere)
    store = open_store(home, PretendUv(), {})
    async with bounded():
        await store.ensure(tiny)
        await store.close()
    assert store.status(tiny).state is EnvironmentState.READY
    assert mode_of(elsewhere) == 0o755, "nobody else may put an environment there"


async def test_s13_folders_that_others_could_write_in_are_closed(tiny: Manifest, home: Path) -> None:
    wide = [home, *(home / name for name in ("envs", "locks", "seed", "run"))]
    for folder in wide:
        folder.mkdir()
        folder.chmod(0o777)
    store = open_store(home, PretendUv(), {})
    async with bounded():
        await store.ensure(tiny)
        await store.close()
    write_run_file(Home(home), "ws://127.0.0.1:1", None)
    assert [oct(folder.stat().st_mode & 0o777) for folder in wide] == ["0o755"] + ["0o700"] * 4
    assert len(running_modules(Home(home))) == 1


def test_s13_a_sticky_folder_for_all_may_be_home(tmp_path: Path) -> None:
    """As /tmp is: others can add there, but not take away what is ours."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    folders.private(tmp_path / "shared", tmp_path / "shared" / "envs")
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o1777


@pytest.mark.parametrize(
    ("owner", "mode", "refused"),
    [(os.getuid() + 1, 0o700, "another user"), (0, 0o777, "every user"), (0, 0o755, None), (0, 0o1777, None)],
)
def test_s13_a_folder_of_another_user_is_refused_and_one_of_roots_where_all_may_write(
    owner: int, mode: int, refused: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = os.getuid() or 4711
    monkeypatch.setattr(os, "getuid", lambda: me)
    info = os.stat_result((stat.S_IFDIR | mode, 0, 0, 1, owner if owner != me else me + 1, 0, 0, 0, 0, 0))
    if refused is None:
        folders._make_own(tmp_path, info, closed_to=0o022)
    else:
        with pytest.raises(PermissionError, match=refused):
            folders._make_own(tmp_path, info, closed_to=0o022)


def test_s13_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "envs").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="envs is no folder"):
        folders.private(tmp_path, tmp_path / "envs")


# What the dead left.


def dead_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def leftovers(home: Path) -> list[Path]:
    """Of a module that is gone, of one whose pid a stranger has now, and what was put aside."""
    names = [f".tmp-{dead_pid()}-00", f".tmp-{os.getppid()}-00", ".old-12345678-tiny-0123456789abcdef"]
    made = [home / "envs" / name for name in names]
    for folder in made:
        (folder / "deep").mkdir(parents=True)
    return made


async def test_e1_what_a_dead_module_left_is_swept_at_the_start_of_the_next_in_the_background(home: Path) -> None:
    left = leftovers(home)
    (home / "locks").mkdir()
    (home / "locks" / "tiny-0123456789abcdef.lock").touch()
    store = open_store(home, PretendUv(), {})
    store.start()
    assert all(folder.exists() for folder in left), "a start waits for nothing"
    async with bounded():
        await until(lambda: not any(folder.exists() for folder in left), "they are gone")
        await store.close()


async def test_e1_a_sweep_at_the_start_leaves_what_another_module_is_building(home: Path) -> None:
    dead, building, aside = leftovers(home)
    (home / "locks").mkdir()
    release = try_lock(home / "locks" / "tiny-0123456789abcdef.lock")
    assert release is not None
    store = open_store(home, PretendUv(), {})
    store.start()
    async with bounded():
        await until(lambda: not dead.exists() and not aside.exists(), "the others are gone")
        await store.close()
    assert building.exists()
    release()


async def test_e1_a_sweep_follows_no_link(home: Path, elsewhere: Path) -> None:
    for folder in leftovers(elsewhere):
        assert folder.exists()
    link(home / "envs", elsewhere / "envs")
    folders.sweep(home / "envs", lambda: False)
    assert len(entries(elsewhere / "envs")) == 3


async def test_e1_leftovers_that_cannot_be_looked_at_stop_no_start(
    home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(folders, "sweep", unreadable)
    store = open_store(home, PretendUv(), {})
    with caplog.at_level(logging.INFO):
        store.start()
        async with bounded():
            await until(lambda: "was not removed" in caplog.text, "it is said")
            await store.close()


async def test_e8_a_start_without_uv_says_so_in_the_log(
    home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise InstallFailed("there is no uv")

    monkeypatch.setattr("waifu_llm.environment.uv.find_uv", missing)
    store = open_store(home, PretendUv(), {})
    store.start()
    await store.close()
    assert "nothing can be installed: there is no uv" in caplog.text
