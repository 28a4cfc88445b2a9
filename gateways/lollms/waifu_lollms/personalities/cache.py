"""What was read from each folder, and how to see that it is still so. Kept in a file, for a quick restart."""

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from waifu_lollms.personalities.model import Personality

# To be raised whenever the same folder would now be read otherwise than before.
_VERSION: Final = 1
# A file that is written twice within one tick of the file system's clock has one time for both contents.
_TICK_NS: Final = 100_000_000

Stamp: TypeAlias = tuple[int, int, int, int, int]
"""Inode, both times of change, size and mode; of the link and then of its target where it is one."""


class Remembered(msgspec.Struct, frozen=True):
    """What a folder held: a personality, or the sentence that says why it is none.

    `stamps` are those of `watched`, names below the folder; None for what was not there. Without any the folder was
    changed so shortly before that it must be read again.
    """

    watched: tuple[str, ...]
    stamps: tuple[tuple[Stamp, ...], ...]
    personality: Personality | None
    message: str = ""


class _File(msgspec.Struct, frozen=True):
    version: int
    entries: dict[str, Remembered]


def stamps_of(folder: Path, watched: Iterable[str]) -> tuple[tuple[Stamp, ...], ...]:
    """How those names below `folder` look now; blocks, opens nothing, raises nothing."""
    return tuple(_stamps(os.path.join(folder, name)) for name in watched)  # noqa: PTH118 - thousands, and it is faster


def _stamps(path: str) -> tuple[Stamp, ...]:
    try:
        info = os.lstat(path)
        if not stat.S_ISLNK(info.st_mode):
            return (_stamp(info),)
        return (_stamp(info), _stamp(os.stat(path)))  # noqa: PTH116 - as above
    except OSError:
        return ()


def _stamp(info: os.stat_result) -> Stamp:
    return (info.st_ino, info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_mode)


def is_settled(stamps: tuple[tuple[Stamp, ...], ...], read_ns: int) -> bool:
    """Whether no change can hide behind these stamps, taken at `read_ns`: none was of that very moment."""
    times = (changed for each in stamps for stamp in each for changed in stamp[1:3])
    return not any(0 <= read_ns - changed < _TICK_NS for changed in times)


def load(file: Path) -> dict[str, Remembered]:
    """What was kept; nothing where the file is missing, broken or of another version."""
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=_File)
    except (OSError, ValueError, RecursionError):
        return {}
    return kept.entries if kept.version == _VERSION else {}


def save(file: Path, entries: Mapping[str, Remembered]) -> None:
    """Keep `entries`, whole or not at all. A disk that does not take them costs time at the next start, no more."""
    with contextlib.suppress(OSError, ValueError):
        data = msgspec.json.encode(_File(_VERSION, dict(entries)))
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(data)
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink()
            raise


def now_ns() -> int:
    """The clock that file systems stamp with."""
    return time.time_ns()
