"""Descendants that left their group: marked by the core, adopted by it on Linux, ended when their worker has ended.

A mark (see `guardian`) stays with a descendant whatever it does to its variables and its session; each child of the
core has its own, so that what a living worker keeps in the background is left alone when another one ends.
"""

import asyncio
import contextlib
import os
import signal
import sys
import weakref
from collections.abc import Callable, Set
from pathlib import Path
from typing import Final

from waifu_llm.supervision.guardian import FILE_LOCKS, MARKS, mark_of

_PR_SET_CHILD_SUBREAPER: Final = 36
_TASKS: Final = Path("/proc/self/task")
if sys.platform == "linux":
    import resource

_Looks = set[Callable[[], object]]
# Of each loop those that it calls. A loop has one handler; asyncio itself waits for its children without the signal.
_LOOKS: Final["weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Looks]"] = weakref.WeakKeyDictionary()


def adopt(look: Callable[[], object]) -> None:
    """Make this process the parent of orphaned descendants, and `look` on the running loop when any child has ended.

    Linux; elsewhere the guardian alone finds them. Done again it changes nothing. `leave` ends the looks.
    """
    if sys.platform == "linux":
        import ctypes  # late, as psutil below: the module listens before it starts anything

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # Nobody waits for who was adopted, and it may end at any time. Only the main thread hears signals.
        with contextlib.suppress(RuntimeError):
            loop = asyncio.get_running_loop()
            looks = _LOOKS.setdefault(loop, set())
            loop.add_signal_handler(signal.SIGCHLD, _call_all, looks)
            looks.add(look)


def leave(look: Callable[[], object]) -> None:
    """Call `look` no more when a child has ended; those of others on this loop are called on."""
    if sys.platform == "linux":
        loop = asyncio.get_running_loop()
        looks = _LOOKS.get(loop, set())
        if look in looks:
            looks.remove(look)
            if not looks:
                loop.remove_signal_handler(signal.SIGCHLD)


def _call_all(looks: _Looks) -> None:
    for look in tuple(looks):
        look()


def mark_next_start(mark: int) -> None:
    """What is started in this turn of the loop bears the mark from its first instruction on (Linux).

    asyncio forks before its first wait; from the next turn on this process itself bears none, nor what it starts then.
    """
    if _OWN_LIMITS is not None:
        _set_limits(mark, _OWN_LIMITS[1])
        asyncio.get_running_loop().call_soon(_set_limits, *_OWN_LIMITS)


def _limits() -> tuple[int, int] | None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):
            return resource.getrlimit(FILE_LOCKS)
    return None


def _set_limits(soft: int, hard: int) -> None:
    if sys.platform == "linux":
        # Where it may not be changed (a sandbox that knows no such limit) the environment's marker has to do.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(FILE_LOCKS, (soft, hard))


# The core's own, from before the first start.
_OWN_LIMITS: Final = _limits()


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


def end(first_mark: int, living: Set[int], keep: Set[int]) -> bool:
    """Kill adopted children with a mark of this run that no `living` child has, and reap those that died.

    `keep` are the pids of children whose owner waits for them. Never waits: whether to look again, for what was killed
    and for its own children, who are adopted next.
    """
    if sys.platform != "linux":
        return False
    found = False
    for pid in _children():
        mark = None if pid in keep else mark_of(pid)
        if mark is None or not first_mark <= mark < first_mark + MARKS:
            continue
        # It is a child that nobody has waited for: its pid can belong to nobody else.
        if mark not in living:
            found = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return found


def _children() -> list[int]:
    try:
        return [int(pid) for task in _TASKS.iterdir() for pid in (task / "children").read_bytes().split()]
    except OSError:
        # A thread has just ended, or a kernel without these files: all of /proc, which costs milliseconds.
        import psutil

        return [child.pid for child in psutil.Process().children()]
