"""Outlives the core by a moment and kills whatever still carries this run's marker or one of its marks.

The marker is a variable. A program that starts another with variables of its own takes it away, so that on Linux each
child bears a mark besides: a value of a resource limit that limits nothing any more and that all descendants inherit,
whatever their variables, sessions and groups.

Run as `python -I -S guardian.py` in a session of its own, standard library only. The first line of its input
is the marker; the core holds the only write end of that pipe, so the end of input means that the core is
gone, whatever ended it. Unlike a parent-death signal this reaches stopped processes, their children, and
children in sessions of their own.
"""

import contextlib
import os
import signal
import sys
import time

VARIABLE = "WAIFU_LLM_RUN"
LIMIT_S = 2.0
PAUSE_S = 0.01
LONGEST_MARKER = 256
GREETING = b"watching\n"
FILE_LOCKS = 10  # RLIMIT_LOCKS: of no effect since Linux 2.4.25, but kept, inherited and shown
MARKS = 2**20
_MARK_DIGITS = 10
_SIGKILL = 9  # signal.SIGKILL, which Windows' signal module has not


def first_mark(marker: str) -> int:
    """The first of a run's `MARKS` marks: 60 bits, of which the upper 40 are the run's own."""
    return int(marker[:_MARK_DIGITS], 16) * MARKS


def mark_of(pid: int) -> int | None:
    """The mark of a process, or what somebody else set the limit to; None where it is not set or cannot be read."""
    # Read as bytes and by hand: what a process is called may stand in no encoding at all, and this is to stay small.
    with contextlib.suppress(OSError), open(f"/proc/{pid}/limits", "rb") as file:  # noqa: PTH123
        return mark_in(file.read())
    return None


def mark_in(limits: bytes) -> int | None:
    """The mark in what the kernel says of a process's limits; None where it says something else.

    Of a process that is just being taken away it says nothing at all.
    """
    soft = limits.partition(b"Max file locks")[2].split(None, 1)[:1]
    return int(soft[0]) if soft and soft[0].isdigit() else None


def carriers(marker: str) -> list[int]:
    """The pids of all living processes of this user that carry the marker or one of the run's marks."""
    return _carriers_in_proc(marker) if os.path.isdir("/proc/self") else _carriers_by_ps(marker)  # noqa: PTH112


def _carriers_in_proc(marker: str) -> list[int]:
    entry = f"{VARIABLE}={marker}".encode()
    run = first_mark(marker) // MARKS
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib would double what the guardian holds in memory
        # Another user's process, or one that has just ended, cannot be read and is none of ours.
        if name.isdigit() and (_has_entry(name, entry) or (_is_of_run(name, run) and not _is_zombie(name))):
            found.append(int(name))
    return found


def _has_entry(pid: str, entry: bytes) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
        return entry in file.read().split(b"\0")
    return False


def _is_of_run(pid: str, run: int) -> bool:
    mark = mark_of(int(pid))
    return mark is not None and mark // MARKS == run


def _is_zombie(pid: str) -> bool:
    # Nothing can end it but its parent, who need not be there.
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        return file.read().rpartition(b")")[2].split(None, 1)[0] in (b"Z", b"X")
    return True


def _carriers_by_ps(marker: str) -> list[int]:
    # Not before it is needed: it is a sixth of what the guardian would hold in memory.
    import subprocess

    entry = f"{VARIABLE}={marker}"
    listing = subprocess.run(["ps", "-axEww", "-o", "pid=,command="], capture_output=True, check=False)  # noqa: S607 # nosec B607
    found = []
    for line in listing.stdout.decode("utf-8", "replace").splitlines():
        pid, _, command = line.strip().partition(" ")
        if pid.isdigit() and entry in command.split():
            found.append(int(pid))
    return found


def kill_carriers(marker: str, core: int) -> None:
    """SIGKILL every carrier until two scans in a row find none, for `LIMIT_S` at most.

    Never the core: while it starts a child it bears that child's mark, and a start may be cut short by its stop.
    """
    end = time.monotonic() + LIMIT_S
    clean = 0
    while clean < 2 and time.monotonic() < end:
        found = [pid for pid in carriers(marker) if pid not in (os.getpid(), core)]
        clean = 0 if found else clean + 1
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, _SIGKILL)
        time.sleep(PAUSE_S)


def main() -> None:
    """Wait for the core's end, then clean up behind it."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    core = os.getppid()
    marker = sys.stdin.readline(LONGEST_MARKER).strip()
    if marker:
        sys.stdout.write(GREETING.decode())
        sys.stdout.flush()
        sys.stdin.read()
        kill_carriers(marker, core)


if __name__ == "__main__":
    main()
