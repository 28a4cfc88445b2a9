"""What start, loads and generations share: everything that no honest worker does."""

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

# A liveness connection: whoever listens sees this process as long as the connection is open.
CHILD = "import socket,sys,time; s=socket.create_connection((sys.argv[1],int(sys.argv[2]))); time.sleep(100000)"


def pipes() -> Any:
    """The wire's two ends, which only `__main__` knows."""
    return sys.modules["__main__"].pipes


def raw(data: bytes) -> None:
    """Bytes on the wire, past the runtime."""
    sink = pipes().sink
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(sink, view) :]
        except BlockingIOError:
            select.select([], [sink], [])


def segfault() -> NoReturn:
    ctypes.string_at(0)
    raise AssertionError("unreachable")


def hold_the_interpreter() -> NoReturn:
    """Unlike CDLL, PyDLL keeps the GIL: no other thread runs."""
    while True:
        ctypes.PyDLL(None).sleep(1000)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def wait_for_ever() -> NoReturn:
    while True:
        time.sleep(1000)


def noise() -> None:
    """Prints in every way there is, here and in a thread."""

    def make() -> None:
        print("noise: print")  # noqa: T201
        os.write(1, b"noise: os.write\n")
        subprocess.run([sys.executable, "-c", "print('noise: a child')"], check=True)

    make()
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()


def flood_stderr(count: int) -> None:
    line = b"x" * 1023 + b"\n"
    for _ in range(count // len(line) + 1):
        os.write(2, line)


def be_deaf() -> None:
    """From now on nobody reads the wire's input, but its end stays open."""
    source = pipes().source
    os.dup(source)
    silent, keep = os.pipe()
    os.dup(keep)
    os.dup2(silent, source, inheritable=False)


def eat(size: int, allowed: int | None = None) -> None:
    """Take so many MiB for good; `allowed` is how many the system has left for this process from now on."""
    if allowed is not None and sys.platform != "win32":
        import resource

        before = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + allowed * 2**20, before[1]))
        try:
            _eaten.append(b"x" * (size * 2**20))
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
    else:
        _eaten.append(b"x" * (size * 2**20))


_eaten: list[bytes] = []


def child(address: str, *, escaped: bool) -> None:
    """A child that inherits the wire and stays; returns once it runs."""
    host, _, port = address.rpartition(":")
    wire = pipes()
    subprocess.Popen(
        [sys.executable, "-c", CHILD, host, port], start_new_session=escaped, pass_fds=(wire.source, wire.sink)
    )


def die(how: str) -> None:
    """The ways to end this process, by name."""
    match how:
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            segfault()
        case "stop":
            stop()
        case "hold":
            hold_the_interpreter()
        case "spin":
            wait_for_ever()
