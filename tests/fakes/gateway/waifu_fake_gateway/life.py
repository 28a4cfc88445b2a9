"""What it does, by name."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

from waifu_fake_gateway.serving import listening
from waifu_worker.framing import encode
from waifu_worker.gateway import CannotServe, run_gateway
from waifu_worker.stdio import Pipes
from waifu_worker.wire import MAGIC, MAX_LINE_BYTES, WIRE_VERSION, GatewayFailed, GatewayReady, Start

_ADDRESS = "http://127.0.0.1:1"
_GREETINGS = {
    "wrong-magic": GatewayReady(magic="other", wire=WIRE_VERSION, name="fake_gateway", address=_ADDRESS),
    "wrong-wire": GatewayReady(magic=MAGIC, wire=99, name="fake_gateway", address=_ADDRESS),
    "wrong-name": GatewayReady(magic=MAGIC, wire=WIRE_VERSION, name="another", address=_ADDRESS),
    "no-address": GatewayReady(magic=MAGIC, wire=WIRE_VERSION, name="fake_gateway", address=""),
    "no-url": GatewayReady(magic=MAGIC, wire=WIRE_VERSION, name="fake_gateway", address="\x1b[31mhttp://x y"),
}


def live(pipes: Pipes, name: str) -> NoReturn:
    """Be the gateway `name`."""

    @asynccontextmanager
    async def serve(start: Start) -> AsyncIterator[str]:
        does = _task(start)
        await _before(does, start, pipes)
        async with listening(start) as address:
            asyncio.get_running_loop().call_later(0, _after, does, pipes)
            yield address
            if does == "hang-at-end":
                await asyncio.Event().wait()

    run_gateway(pipes, name, serve)


def _task(start: Start) -> str:
    """What to do this time."""
    does, times = start.settings["does"], start.settings["times"]
    counted = Path(start.data_dir, "starts")
    before = int(counted.read_text("utf-8")) if counted.exists() else 0
    counted.write_text(str(before + 1), "utf-8")
    assert isinstance(does, str)
    return does if not isinstance(times, int) or before < times else "serve"


async def _before(does: str, start: Start, pipes: Pipes) -> None:
    """What happens before it is ready."""
    if does in _GREETINGS:
        os.write(pipes.sink, encode(_GREETINGS[does]))
        await asyncio.Event().wait()
    match does:
        case "die":
            sys.stderr.write("the fake gateway dies\n")
            os._exit(3)
        case "raise":
            raise RuntimeError("the fake gateway raises")
        case "hang":
            await asyncio.Event().wait()
        case "failed":
            raise CannotServe("port 9 is in use; choose another with gateway.fake_gateway.port")
        case "failed-secret":
            raise CannotServe(f"cannot serve with {start.token}")
        case "say":
            sys.stderr.write(f"its token is {start.token}\n")
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            silent, _ = os.pipe()
            os.dup2(silent, pipes.source, inheritable=False)


def _after(does: str, pipes: Pipes) -> None:
    """What happens once it is ready; its greeting is on the wire by then."""
    match does:
        case "die-after-ready":
            os._exit(3)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "hold":
            while True:
                # Unlike CDLL, PyDLL keeps the GIL: no other thread runs.
                ctypes.PyDLL(None).sleep(1000)
        case "garbage":
            _write(pipes.sink, b"this is no message\n" * 200)
        case "line":
            _write(pipes.sink, b"x" * (MAX_LINE_BYTES + 1))
        case "failed-late":
            _write(pipes.sink, encode(GatewayFailed(message="the network is gone")))


def _write(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(sink, view) :]
        except BlockingIOError:
            time.sleep(0.001)
