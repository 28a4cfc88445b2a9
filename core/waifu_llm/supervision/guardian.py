"""Outlives the core by a moment and kills whatever still carries this run's marker.

Run as `python -I -S guardian.py` in a session of its own, standard library only. The first line of its input
is the marker; the core holds the only write end of that pipe, so the end of input means that the core is
gone, whatever ended it. Unlike a parent-death signal this reaches stopped processes, their children, and
children in sessions of their own.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

VARIABLE = "WAIFU_LLM_RUN"
LIMIT_S = 2.0
PAUSE_S = 0.01
LONGEST_MARKER = 256
_SIGKILL = 9  # signal.SIGKILL, which Windows' signal module has not


def carriers(marker: str) -> list[int]:
    """The pids of all processes of this user whose environment holds the marker."""
    entry = f"{VARIABLE}={marker}"
    return _carriers_in_proc(entry.encode()) if os.path.isdir("/proc/self") else _carriers_by_ps(entry)  # noqa: PTH112


def _carriers_in_proc(entry: bytes) -> list[int]:
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib would double what the guardian holds in memory
        if name.isdigit():
            # Another user's process, or one that has just ended, cannot be read and is none of ours.
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123
                if entry in file.read().split(b"\0"):
                    found.append(int(name))
    return found


def _carriers_by_ps(entry: str) -> list[int]:
    listing = subprocess.run(["ps", "-axEww", "-o", "pid=,command="], capture_output=True, check=False)  # noqa: S607 # nosec B607
    found = []
    for line in listing.stdout.decode("utf-8", "replace").splitlines():
        pid, _, command = line.strip().partition(" ")
        if pid.isdigit() and entry in command.split():
            found.append(int(pid))
    return found


def kill_carriers(marker: str) -> None:
    """SIGKILL every carrier until two scans in a row find none, for `LIMIT_S` at most."""
    end = time.monotonic() + LIMIT_S
    clean = 0
    while clean < 2 and time.monotonic() < end:
        found = [pid for pid in carriers(marker) if pid != os.getpid()]
        clean = 0 if found else clean + 1
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, _SIGKILL)
        time.sleep(PAUSE_S)


def main() -> None:
    """Wait for the core's end, then clean up behind it."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    marker = sys.stdin.readline(LONGEST_MARKER).strip()
    if marker:
        sys.stdout.write("watching\n")
        sys.stdout.flush()
        sys.stdin.read()
        kill_carriers(marker)


if __name__ == "__main__":
    main()
