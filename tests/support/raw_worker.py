"""Workers that are a script of a few lines, and a pool over such processes: the wire as bytes, written by hand.

Run as a program this is one: the standard library, JSON lines, and whatever a prompt (JSON as well) asks for:

- `cut`: of `chunks` chunks and the end, as bytes, only the first so many. `at`: then it connects there, a strand of
  `support.puppet` that says "pid" and "id", the wire's.
- nothing of that: the whole answer.

The preload of a load, JSON too: `talk_first` makes it write so many bytes before each line that it reads; with `deaf`
it closes its input once it has answered, and stays.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

# Of a request that nobody has: it is read and dropped.
STRAY: Final = b'{"type":"chunk","id":0,"texts":["%s"]}\n' % (b"x" * 32768)


def answer(request_id: int, chunks: int) -> bytes:
    """A whole answer on the wire."""
    lines = [{"type": "chunk", "id": request_id, "texts": [f"{number} "]} for number in range(chunks)]
    return b"".join(json.dumps(line).encode() + b"\n" for line in [*lines, {"type": "done", "id": request_id}])


def text_of(request_id: int, chunks: int, cut: int) -> tuple[str, bool]:
    """What is to be heard of the first `cut` bytes of it, and whether its end is among them."""
    whole = answer(request_id, chunks)[:cut].count(b"\n")
    return "".join(f"{number} " for number in range(min(whole, chunks))), whole > chunks


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def _generate(message: dict[str, Any], connections: list[socket.socket]) -> None:
    asked = json.loads(message["prompt"] or "{}")
    data = answer(message["id"], asked.get("chunks", 1))
    _write(data[: asked.get("cut", len(data))])
    if "at" in asked:
        host, _, port = asked["at"].rpartition(":")
        connections.append(connection := socket.create_connection((host, int(port))))
        connection.sendall(json.dumps({"pid": os.getpid(), "id": message["id"]}).encode() + b"\n")


def _lines(talk_first: list[int]) -> Iterator[dict[str, Any]]:
    while True:
        _write(STRAY * (talk_first[0] // len(STRAY)))
        line = sys.stdin.buffer.readline()
        if not line:
            return
        yield json.loads(line)


def _main() -> None:
    talk_first, connections = [0], list[socket.socket]()
    _write(b'{"type":"ready","magic":"waifu-llm","wire":2,"name":"fake"}\n')
    for message in _lines(talk_first):
        match message["type"]:
            case "load":
                options = json.loads(message.get("preload_model_id") or "{}")
                _write(b'{"type":"done","id":%d,"models":[]}\n' % message["id"])
                talk_first[0] = options.get("talk_first", 0)
                if options.get("deaf"):
                    os.close(0)
                    time.sleep(100_000)
            case "generate":
                _generate(message, connections)


if __name__ == "__main__":
    _main()
