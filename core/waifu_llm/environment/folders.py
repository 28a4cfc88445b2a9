"""Folders of a home: temporary ones and their sweep, sizes, removal, and who runs from them. All of it blocks."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

from waifu_llm.environment.model import Removal, Size

_TEMPORARY: Final = re.compile(r"\.tmp-(\d+)-[0-9a-f]+")
_ASIDE: Final = ".old-"
_own: Final[set[Path]] = set()


def private(folder: Path) -> None:
    """Make a folder for its owner alone. Raises: OSError, also where it is there and another user's: programs run
    from it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sys.platform != "win32" and is_anothers(folder.stat().st_uid, os.getuid()):
        raise PermissionError(errno.EPERM, "it belongs to another user")


def is_anothers(owner: int, me: int) -> bool:
    """Whether `me` cannot trust a folder of `owner`'s: root trusts all, and is trusted by all."""
    return 0 not in (owner, me) and owner != me


def temporary(parent: Path) -> Path:
    """A new folder `.tmp-<pid>-<random>` in `parent`; end it with `remove_tree`, renamed or not. Raises: OSError."""
    folder = parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
    _own.add(folder)
    folder.mkdir(mode=0o700)
    return folder


def sweep(parent: Path) -> None:
    """Remove the temporary folders of processes that are gone, and what was put aside and is in nobody's use."""
    aside: dict[Path, Path] = {}
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        match = _TEMPORARY.fullmatch(folder.name)
        if match is not None and not _is_in_work(folder, int(match[1])):
            remove_tree(folder)
        elif folder.name.startswith(_ASIDE):
            aside[folder] = folder.with_name(folder.name.removeprefix(_ASIDE).partition("-")[2])
    # A process that runs from such a folder goes by the path that it was started with.
    used = running_from(aside.values())
    for folder, original in aside.items():
        if original not in used:
            remove_tree(folder)


def _is_in_work(folder: Path, pid: int) -> bool:
    """A process with this one's pid was here before where a container is started again: its folders are not ours."""
    return folder in _own if pid == os.getpid() else psutil.pid_exists(pid)


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
    for process in psutil.process_iter(["exe", "cmdline"]) if wanted else ():
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
