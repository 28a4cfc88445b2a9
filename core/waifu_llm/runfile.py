"""`<home>/run/<pid>.json`: how other commands find a running module, its token and its certificate."""

import os
import re
import sys
from pathlib import Path
from typing import Final

import msgspec

from waifu_llm.paths import Home
from waifu_llm.private_files import (
    PrivateFileError,
    make_folder_of_home,
    make_private_folder,
    read_private,
    write_private,
)

# No key fits between its lines (RFC 7468); what others write around them is a comment.
_CERTIFICATE: Final = re.compile(
    r"^-----BEGIN CERTIFICATE-----\s*$[A-Za-z0-9+/=\s]+^-----END CERTIFICATE-----", re.MULTILINE
)
# The system counts a process's start from its boot time, which moves a little with the clock.
_SAME_START_S: Final = 2.0


class RunningModule(msgspec.Struct, frozen=True):
    """A module that runs: where it listens, what it wants to be shown, and since when (seconds since 1970).

    `certificate` (PEM) is its own alone, where that is wss.
    """

    pid: int
    url: str
    token: str | None
    started: float
    certificate: str | None = None

    def __repr__(self) -> str:
        return f"RunningModule(pid={self.pid!r}, url={self.url!r}, started={self.started!r})"


class _Record(msgspec.Struct, frozen=True):
    url: str
    started: float
    token: str | None = None
    certificate: str | None = None


def write_run_file(home: Home, url: str, token: str | None, tls_cert: str | None = None) -> Path:
    """Say that this process listens at `url`, with the first certificate of the file `tls_cert`.

    Raises: PrivateFileError.
    """
    make_private_folder(home.root)
    make_folder_of_home(home.run)
    record = _Record(url, _started(os.getpid()) or 0.0, token, _certificate(tls_cert))
    file = _file(home, os.getpid())
    write_private(file, msgspec.json.encode(record), durable=False)  # a power cut ends the module too
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


def _certificate(file: str | None) -> str | None:
    """The module's own, which comes first: whoever trusts those behind it trusts all that they ever signed."""
    if file is None:
        return None
    try:
        found = _CERTIFICATE.search(Path(file).read_text("ascii", "replace"))
    except OSError:
        return None  # it was there a moment ago; who looks for the module trusts the system's authorities
    return None if found is None else found[0]


def _file(home: Home, pid: int) -> Path:
    return home.run / f"{pid}.json"


def _read(file: Path) -> RunningModule | None:
    try:
        record = msgspec.json.decode(read_private(file) or b"", type=_Record)
        return RunningModule(int(file.stem), record.url, record.token, record.started, record.certificate)
    except (PrivateFileError, msgspec.DecodeError, ValueError):
        return None


def _runs(module: RunningModule) -> bool:
    """A pid that another process got since is told by its start time."""
    started = _started(module.pid)
    return started is not None and abs(started - module.started) < _SAME_START_S


def _started(pid: int) -> float | None:
    """When a process started, in seconds since 1970; None where there is none, or only what is left of one."""
    if sys.platform != "linux":
        return _started_by_psutil(pid)
    # What psutil tells too, without its import: the module listens only after this, and `ps` asks for no more.
    try:
        # The name in parentheses may hold anything; from the state on it is words.
        state, *words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        booted = next(line for line in Path("/proc/stat").read_bytes().splitlines() if line.startswith(b"btime "))
        return None if state in (b"Z", b"X") else int(booted.split()[1]) + int(words[18]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _started_by_psutil(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return
