"""The flags of `WAIFU_FAKE_START`."""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable

from waifu_fake import mischief
from waifu_worker.wire import MAGIC, WIRE_VERSION

_READY = {"type": "ready", "magic": MAGIC, "wire": WIRE_VERSION, "name": "fake"}
_WRONG = {
    "wrong-magic": {**_READY, "magic": "somebody-else"},
    "wrong-wire": {**_READY, "wire": 999},
    "wrong-name": {**_READY, "name": "somebody_else"},
    "not-ready": {"type": "beat"},
}


def obey() -> None:
    """Do what the flags say, in order."""
    for flag in os.environ.get("WAIFU_FAKE_START", "").split(","):
        name, _, argument = flag.partition("=")
        _do(name, argument)


def _do(name: str, argument: str) -> None:
    if name in _WRONG:
        mischief.raw(json.dumps(_WRONG[name]).encode() + b"\n")
        mischief.wait_for_ever()
    if name:
        _FLAGS[name](argument)


def _raise(_: str) -> None:
    raise RuntimeError("the fake worker raises at import")


def _wait_for_go(address: str) -> None:
    host, _, port = address.rpartition(":")
    # The connection stays open to the end of the process: its end is this worker's end.
    connection = socket.create_connection((host, int(port)))
    connection.sendall(json.dumps({"event": "start", "pid": os.getpid()}).encode() + b"\n")
    with connection.makefile() as lines:
        if json.loads(lines.readline()) != {"do": "go"}:
            os._exit(4)
    _kept.append(connection)


_kept: list[socket.socket] = []

_FLAGS: dict[str, Callable[[str], object]] = {
    "never-ready": lambda _: mischief.wait_for_ever(),
    "hold-import": lambda _: mischief.hold_the_interpreter(),
    "puppet": _wait_for_go,
    "noise": lambda _: mischief.noise(),
    "flood-stderr": lambda count: mischief.flood_stderr(int(count)),
    "say": lambda text: sys.stderr.write(f"{text}\n"),
    "ignore-term": lambda _: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "ignore-eof": lambda _: mischief.be_deaf(),
    "child": lambda address: mischief.child(address, escaped=False),
    "escaped-child": lambda address: mischief.child(address, escaped=True),
    "exit": lambda code: sys.exit(int(code)),
    "os-exit": lambda code: os._exit(int(code)),
    "raise": _raise,
    "missing-module": lambda _: __import__("waifu_no_such_module"),
    "segfault": lambda _: mischief.segfault(),
}
