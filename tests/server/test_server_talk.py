"""The server over real sockets, with a pool that answers by itself."""

import json
from typing import Any

from support.fake_pool import FakePool
from support.serving import serving
from support.waiting import bounded
from websockets.asyncio.client import ClientConnection, connect

PARAMS = {"model_id": "echo"}
HELLO = [{"role": "user", "content": "one two three"}]


async def say(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def hear(socket: ClientConnection) -> dict[str, Any]:
    async with bounded():
        reply: dict[str, Any] = json.loads(await socket.recv())
    return reply


async def test_a_client_loads_streams_and_closes_the_module() -> None:
    async with serving(FakePool(by_itself=True)) as running, connect(running.url) as socket:
        await say(socket, type="load", unique_request_id="1", provider="echo")
        assert await hear(socket) == {"type": "load_ack", "unique_request_id": "1", "provider": "echo"}
        done = await hear(socket)
        assert (done["type"], done["is_error"], done["error"]) == ("load_done", False, "SUCCESS")
        await say(socket, type="generate", unique_request_id="2", messages=HELLO, params=PARAMS, stream=True)
        replies = [await hear(socket) for _ in range(5)]
        assert [r["type"] for r in replies] == ["generate_ack", *["generate_stream_chunk"] * 3, "generate_stream_done"]
        assert "".join(r.get("chunk", "") for r in replies) == "one two three"
        await say(socket, type="generate", unique_request_id="3", messages=HELLO, params=PARAMS)
        assert (await hear(socket))["type"] == "generate_ack"
        assert (await hear(socket))["response"] == "one two three"
        await say(socket, type="close", unique_request_id="4")
        assert (await hear(socket))["type"] == "close_ack"
        async with bounded():
            await running.server.stop_requested.wait()
