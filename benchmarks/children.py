"""The processes of a benchmark: started as a user starts them, ended by their input's end, watched from outside."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

ROOT: Final = Path(__file__).resolve().parent.parent
_END_S: Final = 15.0
# What a user's shell does not have. With PYTHONDONTWRITEBYTECODE every start would compile everything again.
_NOT_A_USERS: Final = (
    "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPATH", "PYTHONHOME", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG",
    "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT",
)  # fmt: skip
_PREFIXES: Final = ("WAIFU_LLM_", "OPENAI_", "COVERAGE_")


def users_environment(extra: Mapping[str, str] = {}) -> dict[str, str]:
    """This process's variables without those that only developers have, and `extra`."""
    kept = {
        name: value for name, value in os.environ.items() if name not in _NOT_A_USERS and not name.startswith(_PREFIXES)
    }
    return kept | dict(extra)


def program(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command line and the variables of one of the benchmarks' own programs."""
    return [sys.executable, "-m", module, *arguments], users_environment({"PYTHONPATH": str(ROOT)})


def start(argv: Sequence[str], env: Mapping[str, str], errors: Path | None = None) -> "subprocess.Popen[str]":
    """Start it with pipes to its input and from its output; its errors go to a file, else where ours go.

    Ctrl-C reaches this process alone, which then ends what it started.
    """
    with contextlib.ExitStack() as stack:
        stderr = stack.enter_context(errors.open("ab")) if errors is not None else None
        return subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            start_new_session=True,
        )


@contextmanager
def running(module: str, *arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """One of the benchmarks' own programs and the first line that it said; ended with the block."""
    with started(*program(module, *arguments)) as found:
        yield found


@contextmanager
def started(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A program that ends with its input, and the first line that it said; ended with the block."""
    process = start(argv, env)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line, f"this did not start: {' '.join(argv)}"
        yield process, line
    finally:
        end(process)


def end(process: "subprocess.Popen[str]") -> None:
    """Close its input; kill it where that is not enough."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def cpu_s(pid: int) -> float:
    """User and system time that a process has had so far."""
    try:
        # Linux's clock of another process's CPU time (clock_getcpuclockid): nanoseconds, where the counters have ticks.
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system


def tree_cpu_s(pid: int) -> float:
    """The same of a process, of what it has waited for, and of all that runs below it now."""
    total = 0.0
    for process in (root := psutil.Process(pid), *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += cpu_s(process.pid) + times.children_user + times.children_system
    return total


def resident_bytes(pid: int) -> int:
    """What a process has in memory."""
    return psutil.Process(pid).memory_info().rss
