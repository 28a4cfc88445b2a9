"""What a program opens, makes, moves or runs: Python's own audit events, recorded for the time of a block."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_EVENTS: Final = frozenset(
    "open os.listdir os.scandir os.mkdir os.rename os.remove os.rmdir os.link os.symlink os.chmod os.chdir "
    "os.truncate shutil.rmtree shutil.copyfile subprocess.Popen os.exec os.posix_spawn os.startfile".split()
)
_recording: list[tuple[str, str]] | None = None
_hooked = False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _recording is not None and event in _EVENTS:
        # All paths of an event: a rename has two. What follows the path of an `open` is its mode.
        of_paths = arguments[:1] if event == "open" else arguments
        paths = [os.fsdecode(one) for one in of_paths if isinstance(one, str | bytes | os.PathLike)]
        _recording.extend((event, path) for path in paths)


@contextmanager
def everything_opened() -> Iterator[list[tuple[str, str]]]:
    """The events and their paths, of all threads. For tests that are marked `audited` only."""
    assert sys.gettrace() is None, "a hook and a tracer in one process: mark the test `audited`"
    global _recording, _hooked
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    found: list[tuple[str, str]] = []
    _recording = found
    try:
        yield found
    finally:
        _recording = None


def outside(found: list[tuple[str, str]], *roots: Path) -> set[tuple[str, str]]:
    """Those events whose path does not lie in any of these folders, links followed."""
    real = [os.path.realpath(root) for root in roots]
    strange = set()
    for event, path in found:
        place = os.path.realpath(path) if "\0" not in path else path
        if not any(place == root or place.startswith(root + os.sep) for root in real):
            strange.add((event, path))
    return strange
