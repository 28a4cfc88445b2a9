"""Files and folders that only their owner may read: how they are made, read and looked at."""

import os
import stat
from pathlib import Path
from typing import Final

from waifu_llm.errors import ModuleError

_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)
_LARGEST: Final = 1024 * 1024


class PrivateFileError(ModuleError):
    """A private file or its folder is not what it must be, or cannot be read or written."""


def make_private_folder(folder: Path) -> None:
    """Create `folder` (0700) where there is none; one that is there keeps its mode. Raises: PrivateFileError."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise PrivateFileError(f"the folder {folder} cannot be made: {error.strerror or error}") from error


def make_folder_of_home(folder: Path) -> None:
    """Create a folder of a home, or close the one that is there to other users. Raises: PrivateFileError, also where
    it is a link: what is written there would land anywhere.
    """
    make_private_folder(folder)
    try:
        mode = folder.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise PrivateFileError(f"{folder} is a link, so nothing is written there; remove it")
        if os.name != "nt" and stat.S_IMODE(mode) & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise PrivateFileError(f"{folder} cannot be closed to others: {error.strerror or error}") from error


def write_private(file: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace `file` at once by `content`, with mode 0600 whatever the umask; `durable` ones outlive a power cut.

    Raises: PrivateFileError.
    """
    make_private_folder(file.parent)
    _refuse_strange(file)
    temporary = file.with_name(f".{file.name}.{os.urandom(8).hex()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
                opened.flush()
                if durable:
                    os.fsync(opened.fileno())
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise PrivateFileError(f"{file} cannot be written: {error.strerror or error}") from error


def read_private(file: Path) -> bytes | None:
    """What is in `file`, at most 1 MiB; None where it does not exist. Raises: PrivateFileError, for a link too."""
    _refuse_strange(file)
    try:
        descriptor = os.open(file, os.O_RDONLY | _NOFOLLOW | _CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            return opened.read(_LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PrivateFileError(f"{file} cannot be read: {error.strerror or error}") from error


def mode_problem(path: Path) -> str | None:
    """A sentence where other users may read or change `path`; None where it is fine, absent or has no such modes."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    if os.name == "nt" or not stat.S_IMODE(mode) & 0o077:
        return None
    wanted = "700" if stat.S_ISDIR(mode) else "600"
    return f"{path} can be read by other users; run: chmod {wanted} {path}"


def _refuse_strange(file: Path) -> None:
    try:
        mode = file.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "not a plain file"
        raise PrivateFileError(f"{file} is {kind}, so it is neither read nor written; remove it")
