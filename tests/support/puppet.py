"""The test's hand on the fake worker: it decides what the worker does next, so that nothing is slept for.

Give `puppet.address` to the fake (load option `puppet`, or the start flag `puppet=HOST:PORT`) and wait for its
`Strand`s: one per start, load and generation that asks. `strand.hello` is its first event:

- start: `pid`. load: `pid`. Both go on after `go()`.
- generate: `pid`, `model_id`, `prompt`, `messages` (role, name, content), `stops`, `has_deadline`.

The words of a generation: `chunk` (text), `finish` (reason), `truncate`, `fail` (code, message, reason), `raw` (hex),
`exit` (code), `signal` (name, such as SIGKILL). Each is answered by the event `did` once the provider has been asked
for its next piece, so after the chunk was handed to the runtime. A cancelled one says `cancelled`. `closed()` waits
for the strand's end: that of the generation, or of the process.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from support.waiting import bounded

Event = dict[str, object]


class Strand:
    """One start, load or generation of a fake worker, held by the test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: Event) -> None:
        self._reader = reader
        self._writer = writer
        self.hello = hello

    @property
    def pid(self) -> int:
        """The worker's process."""
        pid = self.hello["pid"]
        assert isinstance(pid, int)
        return pid

    def say(self, word: str, **what: object) -> None:
        """Pull, without waiting for it."""
        self._writer.write(json.dumps({"do": word, **what}).encode() + b"\n")

    async def event(self) -> Event:
        """The next thing it says; an empty one at its end."""
        async with bounded():
            line = await self._reader.readline()
        event: Event = json.loads(line) if line else {}
        return event

    async def do(self, word: str, **what: object) -> None:
        """Pull, and wait until it is done."""
        self.say(word, **what)
        event = await self.event()
        assert event.get("event") == "did", event

    def go(self) -> None:
        """A start or a load goes on."""
        self.say("go")

    async def chunk(self, text: str) -> None:
        """A piece of the answer, handed to the runtime when this returns."""
        await self.do("chunk", text=text)

    async def raw(self, data: bytes) -> None:
        """Bytes on the wire, past the runtime; written when this returns."""
        await self.do("raw", hex=data.hex())

    async def finish(self, reason: str = "stop") -> None:
        """The answer is complete."""
        self.say("finish", reason=reason)
        await self.closed()

    async def cancelled(self) -> None:
        """Wait until the runtime cancels it."""
        while (event := await self.event()).get("event") != "cancelled":
            assert event, "ended without having been cancelled"

    async def closed(self) -> None:
        """Wait until its generation, or its process, is over."""
        async with bounded():
            with suppress(ConnectionResetError):
                while await self._reader.read(65536):
                    pass

    def let_go(self) -> None:
        """Close the test's end."""
        self._writer.close()


class Puppet:
    """Listens for fake workers, and for their children's liveness connections."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._strands: asyncio.Queue[Strand] = asyncio.Queue()

    async def strand(self) -> Strand:
        """The next start, load or generation that asks for the test's hand."""
        async with bounded():
            return await self._strands.get()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            hello: Event = json.loads(await reader.readline())
        except (ValueError, ConnectionError):
            writer.close()
            return
        self._strands.put_nowait(Strand(reader, writer, hello))


@asynccontextmanager
async def puppet() -> AsyncIterator[Puppet]:
    """`async with puppet() as hand:`; every strand is let go at the end."""
    strings = Puppet("")
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await strings._accept(reader, writer)

    async with _listening(accept) as address:
        strings.address = address
        try:
            yield strings
        finally:
            for writer in writers:
                writer.close()


class Liveness:
    """Accepts the connections of processes that tell nothing but that they live."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._accepted: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()

    async def born(self) -> asyncio.StreamReader:
        """Wait until one more lives."""
        async with bounded():
            return await self._accepted.get()

    async def died(self, one: asyncio.StreamReader) -> None:
        """Wait until that one is dead."""
        async with bounded():
            with suppress(ConnectionResetError):
                assert await one.read() == b""


@asynccontextmanager
async def liveness() -> AsyncIterator[Liveness]:
    """`async with liveness() as lives:`; give `lives.address` to the flag `child` of the fake."""
    lives = Liveness("")
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        lives._accepted.put_nowait(reader)

    async with _listening(accept) as address:
        lives.address = address
        try:
            yield lives
        finally:
            for writer in writers:
                writer.close()


@asynccontextmanager
async def _listening(
    accept: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
