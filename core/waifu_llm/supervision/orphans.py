"""Grandchildren that left their group: adopted by the core on Linux, then ended when their worker has ended."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Set
from typing import Final

import psutil

from waifu_llm.supervision.guardian import VARIABLE

_PR_SET_CHILD_SUBREAPER: Final = 36


def adopt() -> None:
    """Make this process the parent of orphaned descendants (Linux; elsewhere the guardian alone finds them)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(group: int) -> bool:
    """Take away the adopted members of a group that was killed, or they stay as zombies; whether some live still."""
    if sys.platform != "linux":
        return False
    try:
        while os.waitpid(-group, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return False
    return True


def end(marker: str, keep: Set[int]) -> None:
    """Kill and reap adopted children that carry the marker and that nobody started here."""
    if sys.platform != "linux":
        return
    for child in psutil.Process().children():
        # Between the listing and the look a child may have ended; a zombie has no environment to read.
        with contextlib.suppress(psutil.Error, OSError):
            if child.pid not in keep and child.environ().get(VARIABLE) == marker:
                child.send_signal(signal.SIGKILL)
                os.waitpid(child.pid, 0)
