"""The module as it is, from the frames of its clients to the lines of its workers; in memory and on the test's clock.

Sockets, processes and environments are the test's. Meant for a `VirtualLoop`.
"""

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from support import pool_bench
from support.fake_process import FakeProcess
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedOK
from websockets.protocol import State

from waifu_llm.config import LimitSettings, ServerSettings, Settings
from waifu_llm.server import Server
from waifu_worker import wire

KEY = "the-key-that-every-load-of-this-test-has"


class FakeSocket:
    """What a connection uses of websockets' `ServerConnection`."""

    def __init__(self) -> None:
        self.request = None
        self.code: int | None = None
        self.closed = False
        self.heard: list[dict[str, Any]] = []
        self.writes = 0
        self._incoming: deque[str] = deque()
        self._changed = asyncio.Event()

    @property
    def transport(self) -> "FakeSocket":
        return self

    @property
    def state(self) -> State:
        return State.CLOSED if self.closed else State.OPEN

    def abort(self) -> None:
        self.closed = True
        self._changed.set()

    def get_write_buffer_size(self) -> int:
        return 0

    async def recv(self) -> str:
        while not self._incoming:
            if self.closed:
                raise ConnectionClosedOK(None, None)
            self._changed.clear()
            await self._changed.wait()
        return self._incoming.popleft()

    def write(self, data: bytes) -> None:
        self.writes += 1
        while data:
            frame, data = _first_frame(data)
            self.heard.append(json.loads(frame))

    async def drain(self) -> None:
        pass

    async def send(self, frame: bytes, *, text: bool) -> None:
        assert self.closed
        raise ConnectionClosedOK(None, None)

    async def close(self, code: int, reason: str) -> None:
        if not self.closed:
            self.code = code
            self.abort()

    def push(self, frame: str) -> None:
        self._incoming.append(frame)
        self._changed.set()


class FakeClient:
    """One connection from its client's side."""

    def __init__(self, server: Server) -> None:
        self.socket = FakeSocket()
        self.life = server._loop.create_task(self._live(server))

    async def _live(self, server: Server) -> None:
        await server._handle(cast(ServerConnection, self.socket))

    def say(self, kind: str, request_id: str, **fields: Any) -> None:
        self.socket.push(json.dumps({"type": kind, "unique_request_id": request_id, **fields}))

    def load(self, request_id: str, provider: str = "fake", **fields: Any) -> None:
        self.say("load", request_id, provider=provider, api_key=KEY, **fields)

    def generate(self, request_id: str, *, timeout_ms: int | None = None, **fields: Any) -> None:
        """Its prompt is its id."""
        params = {"model_id": "m", "timeout_ms": timeout_ms}
        messages = [{"role": "user", "content": request_id}]
        self.say("generate", request_id, messages=messages, params=params, **fields)

    def vanish(self) -> None:
        """As when its machine loses power and the system notices."""
        self.socket.abort()

    def heard(self, request_id: str) -> list[dict[str, Any]]:
        return [reply for reply in self.socket.heard if reply["unique_request_id"] == request_id]

    def ends(self, request_id: str) -> list[dict[str, Any]]:
        """The terminal messages of a request."""
        return [reply for reply in self.heard(request_id) if is_terminal(reply)]

    def text(self, request_id: str) -> str:
        return "".join(reply["chunk"] for reply in self.heard(request_id) if "chunk" in reply)


def _first_frame(data: bytes) -> tuple[bytes, bytes]:
    """What a text frame that nothing masks holds, and what follows it."""
    assert data[0] == 0x81
    length, begin = data[1], 2
    if length > 125:
        begin = 4 if length == 126 else 10
        length = int.from_bytes(data[2:begin], "big")
    return data[begin : begin + length], data[begin + length :]


def is_terminal(reply: dict[str, Any]) -> bool:
    return "error" in reply


class WholeModule:
    """A server over a real pool."""

    def __init__(
        self,
        folder: Path,
        *,
        limits: LimitSettings | None = None,
        providers: Sequence[str] = ("fake",),
        **workers: float,
    ) -> None:
        self.bench = pool_bench.make(folder, limits=limits, providers=providers, **workers)  # type: ignore[arg-type]
        settings = Settings(limits=limits or LimitSettings(), server=ServerSettings(port=0))
        self.server = Server(self.bench.pool, settings, self.bench.statistics, self.bench.redactor)
        self.clients: list[FakeClient] = []

    def connect(self) -> FakeClient:
        client = FakeClient(self.server)
        self.clients.append(client)
        return client

    def new_processes(self) -> list[FakeProcess]:
        """Those that were started since the last look."""
        found = []
        while not self.bench.spawn._started.empty():
            found.append(self.bench.spawn._started.get_nowait())
        return found

    async def loaded(self, client: FakeClient, **fields: Any) -> FakeProcess:
        """The worker of the client's first load."""
        client.load("load", **fields)
        process = await self.bench.spawn.loaded("m")
        await turns(20)
        assert [end["error"] for end in client.ends("load")] == ["SUCCESS"]
        return process

    async def generating(self, client: FakeClient, process: FakeProcess, request_id: str, **fields: Any) -> int:
        """The wire's id of a generation that the worker has in its hands."""
        client.generate(request_id, **fields)
        return (await process.next_sent(wire.Generate)).id

    async def end(self) -> None:
        """Everybody leaves, and it stops. Every task of it is done then."""
        for client in self.clients:
            client.vanish()
        await asyncio.gather(*(client.life for client in self.clients))
        await self.server.drain()
        await self.bench.pool.close()

    @property
    def at_rest(self) -> bool:
        """Nobody generates, waits or is being stopped."""
        pool = self.bench.pool
        admission = pool._admission
        counts = (admission.running, admission.queued, admission.memory)
        return counts == (0, 0, 0) and not pool._runs and pool._holdings.at_rest


async def turns(count: int) -> None:
    """Let the loop turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)
