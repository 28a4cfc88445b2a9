"""The published JavaScript client of Socket.IO under Node, its sockets in the test's hand."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from filelock import FileLock
from support.waiting import bounded

PACKAGE: Final = Path(__file__).resolve().parents[1] / "gateways" / "lollms" / "javascript"
INSTALL_S: Final = 300.0
Payload = dict[str, object]


def node_with_client() -> str:
    """The Node program, with the locked packages beside the driver; without Node the test is skipped, and says so."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("NODE IS MISSING: the JavaScript client is not tested here; install Node 20 or newer")
    lock, stamp = PACKAGE / "package-lock.json", PACKAGE / "node_modules" / ".waifu-llm-installed"
    # Into the working tree, whose tests may run several times at once.
    with FileLock(PACKAGE / ".install.lock"):
        if not stamp.is_file() or stamp.read_bytes() != lock.read_bytes():
            argv = [npm, "ci", "--silent", "--no-audit", "--no-fund"]
            subprocess.run(argv, cwd=PACKAGE, check=True, timeout=INSTALL_S)
            stamp.write_bytes(lock.read_bytes())
    return node


class JavaScriptSocket:
    """One socket of the Node process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process
        self.arrived: asyncio.Queue[tuple[str, list[object]]] = asyncio.Queue()

    def _say(self, **command: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"as": self._name, **command}).encode() + b"\n")

    def connect(self, auth: object = None) -> None:
        """Begin to connect; `connect` or `connect_error` arrives."""
        self._say(do="connect", auth=auth)

    def emit(self, event: str, *arguments: object) -> None:
        """Send an event, with the arguments as they are."""
        self._say(do="emit", event=event, args=arguments)

    def disconnect(self) -> None:
        """Leave, whatever is on its way."""
        self._say(do="disconnect")

    async def next(self) -> tuple[str, list[object]]:
        """The next event, with its arguments."""
        async with bounded():
            return await self.arrived.get()

    async def arguments(self, *events: str) -> list[object]:
        """The arguments of the next of these events; others that come first are let go."""
        while True:
            event, arguments = await self.next()
            if event in events:
                return arguments

    async def payload(self, *events: str) -> Payload:
        """The same for events of the gateway, which have one argument, an object."""
        (payload,) = await self.arguments(*events)
        assert isinstance(payload, dict)
        return payload

    async def ask(self, event: str, *arguments: object, reply: str) -> Payload:
        """Send an event and wait for its reply."""
        self.emit(event, *arguments)
        return await self.payload(reply)


class JavaScript:
    """A Node process with as many sockets as asked for."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._sockets: dict[str, JavaScriptSocket] = {}

    def socket(self, name: str = "only") -> JavaScriptSocket:
        """A socket that does nothing yet."""
        self._sockets[name] = JavaScriptSocket(name, self._process)
        return self._sockets[name]

    async def connected(self, name: str = "only", auth: object = None) -> JavaScriptSocket:
        """A socket that is connected."""
        socket = self.socket(name)
        socket.connect(auth)
        await socket.arguments("connect")
        return socket

    async def read(self) -> None:
        """Hand what Node says to its sockets, until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            self._sockets[said["as"]].arrived.put_nowait((said["event"], said["args"]))


@asynccontextmanager
async def javascript(url: str, transports: tuple[str, ...]) -> AsyncIterator[JavaScript]:
    """`async with javascript(url, ("polling", "websocket")) as node:`; all sockets leave at the end."""
    argv = (node_with_client(), str(PACKAGE / "driver.mjs"), url, json.dumps(transports))
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None, limit=16 * 1024 * 1024
    )
    node = JavaScript(process)
    reading = asyncio.create_task(node.read())
    try:
        yield node
        assert process.stdin is not None
        process.stdin.close()
        async with bounded():
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        reading.cancel()
        await asyncio.wait([reading])
