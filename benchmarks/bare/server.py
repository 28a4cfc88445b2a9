"""A bare WebSocket server: the library's own, without compression, that accepts and says nothing. Prints its URL."""

import asyncio
import contextlib
import sys

import msgspec
from benchmarks.ending import end_of_input
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

_READ = msgspec.json.Decoder()


async def _handle(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            _READ.decode(message)


async def _serve() -> None:
    async with serve(_handle, "127.0.0.1", 0, compression=None) as server:
        host, port = next(iter(server.sockets)).getsockname()
        sys.stdout.write(f"ws://{host}:{port}\n")
        sys.stdout.flush()
        await end_of_input()


if __name__ == "__main__":
    asyncio.run(_serve())
