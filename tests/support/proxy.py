"""A proxy between a client and a server, on which things go wrong that no client does by itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeVar

P = TypeVar("P", bound="Proxy")

_PIECE = 64 * 1024


class Proxy:
    """Passes bytes on, both ways, until it is told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = host, port
        self._flows: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._to_server = asyncio.Event()
        self._to_client = asyncio.Event()
        self._to_server.set()
        self._to_client.set()
        self.port = 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
        self._writers |= {writer, upstream_writer}
        flows = (
            self._flow(reader, upstream_writer, self._to_server),
            self._flow(upstream_reader, writer, self._to_client),
        )
        for flow in flows:
            task = asyncio.create_task(flow)
            self._flows.add(task)
            task.add_done_callback(self._flows.discard)

    async def _flow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, open_: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_PIECE):
                await open_.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    def swallow_what_the_client_says(self) -> None:
        """Nothing reaches the server any more, and nobody is told: the client's machine is gone without a word."""
        self._to_server.clear()

    def hold_back_what_the_server_says(self) -> None:
        """The client hears nothing more, until `let_pass`."""
        self._to_client.clear()

    def let_pass(self) -> None:
        """As at the beginning."""
        self._to_server.set()
        self._to_client.set()

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def proxied(host: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy before a server, for the time of the block."""
    async with accepting(Proxy(host, port)) as proxy:
        yield proxy


@contextlib.asynccontextmanager
async def accepting(proxy: P) -> AsyncIterator[P]:
    """It listens, for the time of the block."""
    server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        for flow in tuple(proxy._flows):
            flow.cancel()
        await asyncio.gather(*proxy._flows, return_exceptions=True)
