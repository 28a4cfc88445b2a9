"""lollms.yaml on disk. Every call blocks; they may come from any thread."""

import os
import re
import secrets
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from waifu_lollms.state.document import Document
from waifu_lollms.state.model import State, StateError
from waifu_lollms.state.template import TEMPLATE

if sys.platform != "win32":
    import fcntl

LARGEST: Final = 128 * 1024  # bytes; LoLLMs' own have about ten thousand
_TOO_LARGE: Final = f"it has more than {LARGEST // 1024} KiB"
_NEW_MODE: Final = 0o600
_SAVING: Final = threading.Lock()


class StateFile:
    """Reads and saves the state. `path` may be a link: then the file that it points to is the one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> State:
        """The state; the defaults where there is no file. Raises: StateError."""
        content = self._content()
        return State() if content is None else self._document(content).state

    def save(self, **changes: object) -> State:
        """Change these fields of `State`, and nothing else of the file; returns the state as it is then.

        What others changed meanwhile is kept: saves come one after the other, between processes too, and each reads
        the file anew. Whatever happens, there is the old file or the new one. Raises: StateError, and then nothing
        was changed; TypeError for a name that is no field.
        """
        if unknown := changes.keys() - set(State.__struct_fields__):
            raise TypeError(f"no such field: {', '.join(sorted(unknown))}")
        target = self._target()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with _alone(target.parent):
                content = self._content()
                document = self._document(TEMPLATE.encode() if content is None else content)
                changed = document.changed(changes)
                if changed.content != content:
                    self._replace(target, changed.content)
        except OSError as error:
            raise StateError(f"{self._path.name} cannot be saved: {error.strerror or error}") from error
        return changed.state

    def _document(self, content: bytes) -> Document:
        return Document.of(content, self._path.name)

    def _target(self) -> Path:
        # Not `resolve`: of a link that leads to itself it makes another error, up to Python 3.12.
        return Path(os.path.realpath(self._path))

    def _replace(self, target: Path, content: bytes) -> None:
        if len(content) > LARGEST:
            raise StateError(f"{self._path.name} cannot be saved: {_TOO_LARGE}")
        _replace(target, content)

    def _content(self) -> bytes | None:
        target = self._target()
        try:
            if not stat.S_ISREG(target.stat().st_mode):
                raise StateError(f"{self._path.name} cannot be read: it is not a file")
            with target.open("rb") as opened:
                content = opened.read(LARGEST + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self._path.name} cannot be read: {error.strerror or error}") from error
        if len(content) > LARGEST:
            raise StateError(f"{self._path.name} cannot be read: {_TOO_LARGE}")
        return content


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The only one who saves there: among the threads, and where folders can be locked among the processes too."""
    with _SAVING:
        if sys.platform == "win32":
            yield
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with suppress(OSError):  # some file systems cannot
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _replace(target: Path, content: bytes) -> None:
    _clear_leftovers(target)
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else _NEW_MODE
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), _NEW_MODE)
        with os.fdopen(descriptor, "wb") as opened:
            temporary.chmod(mode)
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _clear_leftovers(target: Path) -> None:
    """What a save that was killed left behind; nobody else saves meanwhile."""
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.tmp")
    with suppress(OSError):
        for path in target.parent.iterdir():
            if ours.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """So that the new name outlives a power cut, where folders can be synced."""
    if sys.platform == "win32":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
