"""A client that says and hears plain JSON, as any program could."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from support.waiting import bounded
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

USER = [{"role": "user", "content": "one two three"}]
PARAMS = {"model_id": "echo"}


class Peer:
    """One connection to a server."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, kind: str, unique_request_id: str | int = "x", **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, "unique_request_id": unique_request_id, **fields}))

    async def hear(self) -> dict[str, Any]:
        async with bounded():
            reply: dict[str, Any] = json.loads(await self.socket.recv())
        return reply

    async def hear_types(self, *types: str) -> list[dict[str, Any]]:
        """The next replies, which are of these types in this order."""
        replies = [await self.hear() for _ in types]
        assert [reply["type"] for reply in replies] == list(types)
        return replies

    async def load(self, provider: str = "echo", unique_request_id: str = "load") -> None:
        """Load and wait for its end; the pool answers by itself."""
        await self.say("load", unique_request_id, provider=provider)
        (_, done) = await self.hear_types("load_ack", "load_done")
        assert done["error"] == "SUCCESS"

    async def generate(self, unique_request_id: str | int = "g", *, stream: bool = True, **fields: Any) -> None:
        """Ask for a generation and hear its acknowledgement."""
        fields = {"messages": USER, "params": PARAMS, "stream": stream, **fields}
        await self.say("generate", unique_request_id, **fields)
        await self.hear_types("generate_ack")

    async def closed(self) -> int | None:
        """Hear nothing more: the code that the server closed with."""
        with contextlib.suppress(ConnectionClosed):
            async with bounded():
                reply = await self.socket.recv()
            raise AssertionError(f"expected the end, heard {reply!r}")
        return self.socket.close_code


@contextlib.asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Peer]:
    """A connection for the time of the block."""
    async with connect(url, **options) as socket:
        yield Peer(socket)
