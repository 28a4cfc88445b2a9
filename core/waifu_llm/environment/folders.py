"""Folders of a home: temporary ones and their sweep, sizes, removal, and who runs from them. All of it blocks."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from waifu_llm.environment.model import Removal, Size

_TEMPORARY: Final = re.compile(r"\.tmp-(\d+)-[0-9a-f]+")
_ASIDE: Final = ".old-"
_own: Final[set[Path]] = set()


def private(home: Path, *below: Path) -> None:
    """Make the home and these folders in it, each after the one that it lies in, for their owner alone.

    The home itself may be a link. Raises: OSError, also where one is another user's or a link elsewhere: programs run
    from there.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    _make_own(home, home.stat(), closed_to=0o022)
    for folder in below:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        info = folder.lstat()
        if stat.S_ISLNK(info.st_mode):
            raise OSError(errno.ELOOP, f"{folder.name} is a link")
        if not stat.S_ISDIR(info.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, f"{folder.name} is no folder")
        _make_own(folder, info, closed_to=0o077)


def _make_own(folder: Path, info: os.stat_result, closed_to: int) -> None:
    """Take from others what they may do in a folder of ours."""
    if sys.platform == "win32":
        return
    me = os.getuid()
    if is_anothers(info.st_uid, me):
        raise PermissionError(errno.EPERM, f"{folder.name} belongs to another user")
    mode = stat.S_IMODE(info.st_mode)
    # In a sticky one, such as /tmp, nobody can put a folder of his own in the place of ours.
    if not mode & closed_to or mode & stat.S_ISVTX:
        return
    if info.st_uid == me:
        folder.chmod(mode & ~closed_to)
    elif mode & stat.S_IWOTH:
        raise PermissionError(errno.EPERM, f"{folder.name} can be written by every user")


def is_anothers(owner: int, me: int) -> bool:
    """Whether `me` cannot trust a folder of `owner`'s: root trusts all, and is trusted by all."""
    return 0 not in (owner, me) and owner != me


def temporary(parent: Path) -> Path:
    """A new folder `.tmp-<pid>-<random>` in `parent`; end it with `remove_tree`, renamed or not. Raises: OSError."""
    folder = parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
    _own.add(folder)
    folder.mkdir(mode=0o700)
    return folder


def sweep(parent: Path, is_building: Callable[[], bool]) -> None:
    """Remove the temporary folders of processes that are gone, and what was put aside and is in nobody's use.

    `is_building`: whether any process is at work here, which may be the one that a folder is named for. It may also be
    a stranger that got the pid of a dead one. Raises: OSError.
    """
    if parent.is_symlink() or not parent.is_dir():
        return
    aside: dict[Path, Path] = {}
    for folder in sorted(parent.iterdir()):
        match = _TEMPORARY.fullmatch(folder.name)
        if match is not None and not _is_in_work(folder, int(match[1]), is_building):
            remove_tree(folder)
        elif folder.name.startswith(_ASIDE):
            aside[folder] = folder.with_name(folder.name.removeprefix(_ASIDE).partition("-")[2])
    # A process that runs from such a folder goes by the path that it was started with.
    used = running_from(aside.values())
    for folder, original in aside.items():
        if original not in used:
            remove_tree(folder)


def _is_in_work(folder: Path, pid: int, is_building: Callable[[], bool]) -> bool:
    """A process with this one's pid was here before where a container is started again: its folders are not ours."""
    if pid == os.getpid():
        return folder in _own
    import psutil  # late, as below: the module listens before it looks at any process

    return psutil.pid_exists(pid) and is_building()


def put_aside(folder: Path) -> Path:
    """Take a folder out of sight in one step, so that nobody sees it half removed. Raises: OSError."""
    aside = folder.with_name(f"{_ASIDE}{secrets.token_hex(4)}-{folder.name}")
    folder.rename(aside)
    return aside


def remove_tree(folder: Path) -> bool:
    """Remove a folder, or the link that stands for it, never following links; whether nothing is left of it."""
    _own.discard(folder)
    if folder.is_symlink():
        with contextlib.suppress(OSError):
            folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
        # Who was writing a file in it just then (byte code, a log) does so no more.
        shutil.rmtree(folder, ignore_errors=True)
    return not os.path.lexists(folder)


def size_of(folder: Path) -> Size:
    """What a folder takes."""
    own = shared = 0
    for base, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                info = (Path(base) / name).lstat()
                if info.st_nlink > 1:
                    shared += info.st_size
                else:
                    own += info.st_size
    return Size(own, shared)


def running_from(folders: Iterable[Path]) -> dict[Path, int]:
    """Those of the folders that a live process runs from, each with one such pid.

    By command line too: a virtual environment's python is a link, and `exe` is what it points to.
    """
    wanted = list(folders)
    found: dict[Path, int] = {}
    if not wanted:
        return found
    import psutil

    for process in psutil.process_iter(["exe", "cmdline"]):
        words = [process.info["exe"] or "", *(process.info["cmdline"] or ())]
        found |= {folder: process.pid for folder in wanted if any(_lies_in(word, folder) for word in words)}
    return found


def _lies_in(word: str, folder: Path) -> bool:
    head, name, _ = word.partition(f"{os.sep}{folder.name}")
    if not name:
        return False
    found = Path(head + name)
    with contextlib.suppress(OSError):
        return found == folder or found.samefile(folder)
    return False


def remove_unused(doomed: list[Path]) -> list[Removal]:
    """Remove those folders that no live process runs from."""
    used = running_from(doomed)
    return [_remove_one(folder, used.get(folder)) for folder in doomed]


def _remove_one(folder: Path, pid: int | None) -> Removal:
    if pid is not None:
        return Removal(folder, kept=f"process {pid} runs from it")
    freed = size_of(folder).own
    try:
        gone = remove_tree(put_aside(folder))
    except OSError as error:
        return Removal(folder, kept=f"it cannot be removed ({error.strerror})")
    return Removal(folder, freed) if gone else Removal(folder, kept="some of its files cannot be removed")
