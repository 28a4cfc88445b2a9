"""What it serves: a line of JSON in, a line of JSON out, for as long as the other side likes.

- `{"do": "tell"}`: `pid`, `argv`, `environ`, `settings`, `data_dir`, `url`, `token`, `log_level`, `collects`.
- `{"do": "connect"}`: a connection to the module; `{"do": "generate", "text": ...}`: what echo makes of it, over that.
- `{"do": "die"}`: no answer any more.
"""

import asyncio
import gc
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from waifu_client import Client
from waifu_worker.wire import Start


@asynccontextmanager
async def listening(start: Start) -> AsyncIterator[str]:
    """Serve on a socket while it lasts; its address."""
    port = start.settings["port"]
    assert isinstance(port, int)
    server = await asyncio.start_server(lambda *pair: _talk(start, *pair), "127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _talk(start: Start, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    client: Client | None = None
    try:
        while line := await reader.readline():
            asked = json.loads(line)
            match asked["do"]:
                case "tell":
                    said = _facts(start)
                case "connect":
                    client = await Client.open(start.url, token=start.token)
                    said = {"connections": (await client.stats()).connections}
                case "generate":
                    assert client is not None
                    await client.load("echo")
                    said = {"text": (await client.generate(asked["text"], model_id="echo")).text}
                case "die":
                    os._exit(4)
            writer.write(json.dumps(said).encode() + b"\n")
            await writer.drain()
    finally:
        if client is not None:
            await client.aclose()
        writer.close()


def _facts(start: Start) -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "collects": gc.isenabled(),
        "argv": sys.orig_argv,
        "environ": dict(os.environ),
        "settings": start.settings,
        "data_dir": start.data_dir,
        "url": start.url,
        "token": start.token,
        "log_level": start.log_level,
    }
