"""A bare reader: the same service read by aiohttp alone, decoded as little as that takes, and nobody told.

A line to it is `{"model", "streams"}`; it reads so many streams at once and answers with a line `Read`.
"""

import asyncio
import sys
import time
from typing import Final

import aiohttp
import msgspec
from benchmarks.bare import sse
from benchmarks.heap import keep_what_reads_take

_now: Final = time.perf_counter


class Asked(msgspec.Struct):
    """What to read."""

    model: str
    streams: int = 1


class Read(msgspec.Struct):
    """All of it took `seconds`; `first` and `total` are each stream's own, `texts` what it said."""

    seconds: float
    first: list[float]
    total: list[float]
    texts: list[str]


async def _one(session: aiohttp.ClientSession, url: str, model: str) -> tuple[float, float, str]:
    begun, first = _now(), 0.0
    place, body = sse.request(url, model)
    splitter, pieces = sse.Splitter(), list[str]()
    async with session.post(place, data=body, headers={"Content-Type": "application/json"}) as response:
        while data := await response.content.readany():
            pieces += splitter.feed(data)
            if pieces and not first:
                first = _now() - begun
    return first, _now() - begun, "".join(pieces)


async def _work(url: str) -> None:
    keep_what_reads_take()
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with sse.session() as session:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while line := await lines.readline():
            asked = msgspec.json.decode(line, type=Asked)
            begun = _now()
            done = await asyncio.gather(*(_one(session, url, asked.model) for _ in range(asked.streams)))
            read = Read(_now() - begun, *(list(part) for part in zip(*done, strict=True)))
            sys.stdout.buffer.write(msgspec.json.encode(read) + b"\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1]))
