"""A bare worker: reads an OpenAI-style service with aiohttp and writes one line per read. Validates nothing.

Its arguments are the service's URL, and `memory` where it is to write from memory what it would have read. It says
"ready" once it has the list of models. A line to it is `{"id", "model"}`, a line from it `{"id", "texts"}`, at the end
`{"id"}`.
"""

import asyncio
import sys
from typing import Final

import aiohttp
import msgspec
from benchmarks.answers import Wanted, chunk_text
from benchmarks.bare import sse
from benchmarks.heap import keep_what_reads_take

# How many chunks a flood brings in one read of a socket: 64 KiB of events of 270 bytes.
_AT_ONCE: Final = 240


class Asked(msgspec.Struct):
    """What it is told to do."""

    id: int
    model: str


class Brought(msgspec.Struct, omit_defaults=True):
    """What came in one read; without texts it was the last."""

    id: int
    texts: list[str] = []


_write: Final = sys.stdout.buffer.raw.write if hasattr(sys.stdout.buffer, "raw") else sys.stdout.buffer.write
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Asked).decode


def _say(brought: Brought) -> None:
    data = _encode(brought) + b"\n"
    while data:
        data = data[_write(data) :]


async def _read(session: aiohttp.ClientSession, url: str, asked: Asked) -> None:
    place, body = sse.request(url, asked.model)
    splitter = sse.Splitter()
    async with session.post(place, data=body, headers={"Content-Type": "application/json"}) as response:
        while data := await response.content.readany():
            texts = splitter.feed(data)
            if texts:
                _say(Brought(asked.id, texts))
    _say(Brought(asked.id))


async def _remember(asked: Asked) -> None:
    count = Wanted.of(asked.model).n
    texts = [chunk_text(number) for number in range(count)]
    for first in range(0, count, _AT_ONCE):
        _say(Brought(asked.id, texts[first : first + _AT_ONCE]))
        await asyncio.sleep(0)
    _say(Brought(asked.id))


async def _work(url: str, from_memory: bool) -> None:
    keep_what_reads_take()
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    running: set[asyncio.Task[None]] = set()
    async with sse.session() as session:
        async with session.get(f"{url}/models") as response:
            await response.read()
        _write(b"ready\n")
        while line := await lines.readline():
            asked = _decode(line)
            work = _remember(asked) if from_memory else _read(session, url, asked)
            task = loop.create_task(work)
            running.add(task)
            task.add_done_callback(running.discard)


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], sys.argv[2:] == ["memory"]))
