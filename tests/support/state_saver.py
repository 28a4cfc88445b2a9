"""Programs that save lollms.yaml, some of which are killed at it: `python state_saver.py HOW PATH ...`."""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final

from waifu_lollms.state import StateFile

NEW_MODEL: Final = "the new model"
_FILES: Final = ("state/file.py", Path.unlink.__code__.co_filename)


def killed_at_each_call(path: Path) -> None:
    """Save, killed at the first call once the save turns to the folder; again from there, killed at the second; ...

    The last one comes to its end. A line of JSON for each: whether it was killed, and what the file has in it then
    (null: there is none).
    """
    old = path.read_bytes() if path.exists() else None
    folder = str(path.parent.resolve())
    waiting = True

    def begin(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal waiting
        # Libraries list their own folders before: a save that began there would be read anew in each child.
        if waiting and event in ("os.listdir", "os.scandir") and str(arguments[0]) == folder:
            waiting = False
            _fork_until_saved(path, old)

    sys.addaudithook(begin)
    StateFile(path).save(model_name=NEW_MODEL)
    sys.setprofile(None)
    os._exit(0)


def _fork_until_saved(path: Path, old: bytes | None) -> None:
    """In the midst of a save; returns in the children only, which go on with it."""
    killed, calls = True, 0
    while killed:
        calls += 1
        child = os.fork()
        if not child:
            _die_at(calls)
            return
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        content = path.read_text("utf-8") if path.exists() else None
        sys.stdout.write(json.dumps([killed, content]) + "\n")
        sys.stdout.flush()
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        if old is not None and killed:
            path.write_bytes(old)
    os._exit(0)


def _die_at(calls: int) -> None:
    seen = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal seen
        if event.endswith(("call", "return")) and frame.f_code.co_filename.replace("\\", "/").endswith(_FILES):
            seen += 1
            if seen == calls:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)


def saves_until_killed(path: Path) -> None:
    """Save `model 1`, `model 2`, ...: a byte on the standard output before each."""
    number = 0
    while True:
        number += 1
        os.write(1, b".")
        StateFile(path).save(model_name=f"model {number}")


def saves(path: Path, field: str, times: int) -> None:
    """Save 1, 2, ... up to `times` for one field."""
    for number in range(1, times + 1):
        StateFile(path).save(**{field: number})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["each-call", path]:
            killed_at_each_call(Path(path))
        case ["until-killed", path]:
            saves_until_killed(Path(path))
        case ["times", path, field, times]:
            saves(Path(path), field, int(times))
        case _:
            sys.exit("HOW PATH ...")
