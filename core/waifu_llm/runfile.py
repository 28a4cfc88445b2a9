"""`<home>/run/<pid>.json`: how `ps`, `stop` and `chat` find a running module, and its token."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import psutil

from waifu_llm.paths import Home
from waifu_llm.private_files import (
    PrivateFileError,
    make_folder_of_home,
    make_private_folder,
    read_private,
    write_private,
)

# The system counts a process's start from its boot time, which moves a little with the clock.
_SAME_START_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class RunningModule:
    """A module that runs: where it listens, what it wants to be shown, and since when (seconds since 1970)."""

    pid: int
    url: str
    token: str | None = field(repr=False)
    started: float


class _Record(msgspec.Struct, frozen=True):
    url: str
    started: float
    token: str | None = None


def write_run_file(home: Home, url: str, token: str | None) -> Path:
    """Say that this process listens at `url`. Raises: PrivateFileError."""
    make_private_folder(home.root)
    make_folder_of_home(home.run)
    record = _Record(url, psutil.Process().create_time(), token)
    file = _file(home, os.getpid())
    write_private(file, msgspec.json.encode(record))
    return file


def remove_run_file(home: Home) -> None:
    """This process listens no more. Never raises: what is left behind is swept by the next that looks."""
    _remove(_file(home, os.getpid()))


def running_modules(home: Home) -> list[RunningModule]:
    """The modules of this home that run, the newest first; files of those that don't are swept away."""
    found = []
    for file in sorted(home.run.glob("*.json")) if home.run.is_dir() else ():
        module = _read(file)
        if module is None or not _runs(module):
            _remove(file)
        else:
            found.append(module)
    return sorted(found, key=lambda module: module.started, reverse=True)


def _file(home: Home, pid: int) -> Path:
    return home.run / f"{pid}.json"


def _read(file: Path) -> RunningModule | None:
    try:
        record = msgspec.json.decode(read_private(file) or b"", type=_Record)
        return RunningModule(int(file.stem), record.url, record.token, record.started)
    except (PrivateFileError, msgspec.DecodeError, ValueError):
        return None


def _runs(module: RunningModule) -> bool:
    """A pid that another process got since is told by its start time."""
    try:
        process = psutil.Process(module.pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - module.started) < _SAME_START_S
    except psutil.Error:
        return False


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return
