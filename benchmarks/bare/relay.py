"""A bare relay of a pipe to sockets: what the module would cost if it checked, timed and promised nothing.

It speaks as much of the protocol as the load generator does: one write for each client and buffer, one frame for each
chunk, or for each request's text in the buffer where the client is behind. Its arguments are its worker's (see
`bare.worker`); it prints its URL and ends with its input.
"""

import asyncio
import base64
import hashlib
import re
import sys
from typing import Final

import msgspec
from benchmarks.bare.worker import Brought
from benchmarks.children import program
from benchmarks.ending import end_of_input
from benchmarks.heap import keep_what_reads_take

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = re.compile(rb"sec-websocket-key: *(\S+)", re.IGNORECASE)
_encode: Final = msgspec.json.Encoder().encode


class _Params(msgspec.Struct):
    model_id: str


class _Request(msgspec.Struct):
    type: str
    unique_request_id: str
    params: _Params | None = None
    stream: bool = True


_decode: Final = msgspec.json.Decoder(_Request).decode
_brought: Final = msgspec.json.Decoder(Brought).decode


def frame(payload: bytes) -> bytes:
    """One text frame from server to client."""
    length = len(payload)
    if length < 126:
        return b"\x81%c%s" % (length, payload)
    if length < 65536:
        return b"\x81\x7e%s%s" % (length.to_bytes(2, "big"), payload)
    return b"\x81\x7f%s%s" % (length.to_bytes(8, "big"), payload)


class _Running:
    """A request on its way."""

    __slots__ = ("before", "client", "name", "texts")

    def __init__(self, client: "_Connection", request: _Request) -> None:
        self.client = client
        self.name = request.unique_request_id
        self.before = b'{"type":"generate_stream_chunk","unique_request_id":%s,"chunk":' % _encode(self.name)
        self.texts: list[str] | None = None if request.stream else []

    def frames(self, brought: Brought) -> bytes:
        """What its client is sent."""
        if brought.texts and self.texts is None:
            return b"".join([frame(b"%s%s}" % (self.before, _encode(text))) for text in brought.texts])
        if brought.texts:
            assert self.texts is not None
            self.texts += brought.texts
            return b""
        done: dict[str, object] = {"unique_request_id": self.name, "is_error": False, "error": "SUCCESS"}
        if self.texts is None:
            return frame(_encode({"type": "generate_stream_done", **done}))
        return frame(_encode({"type": "generate_done", **done, "response": "".join(self.texts)}))


class Relay(asyncio.SubprocessProtocol):
    """The worker's side."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self._running: dict[int, _Running] = {}
        self._last = 0
        self._rest = b""
        self._input: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The worker was started."""
        assert isinstance(transport, asyncio.SubprocessTransport)
        pipe = transport.get_pipe_transport(0)
        assert isinstance(pipe, asyncio.WriteTransport)
        self._input = pipe

    def generate(self, client: "_Connection", request: _Request) -> None:
        """Hand a request on."""
        assert self._input is not None
        assert request.params is not None
        self._last += 1
        self._running[self._last] = _Running(client, request)
        self._input.write(_encode({"id": self._last, "model": request.params.model_id}) + b"\n")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Whole lines go out, all of one client in one write."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        out: dict[_Connection, list[tuple[_Running, Brought]]] = {}
        for line in lines:
            if line == b"ready":
                self.ready.set()
                continue
            brought = _brought(line)
            running = self._running[brought.id] if brought.texts else self._running.pop(brought.id)
            out.setdefault(running.client, []).append((running, brought))
        for client, entries in out.items():
            if client.is_behind:
                entries = _joined(entries)
            client.write(b"".join([running.frames(brought) for running, brought in entries]))


def _joined(entries: list[tuple[_Running, Brought]]) -> list[tuple[_Running, Brought]]:
    """The same text in one message per request; its end stays behind it."""
    texts: dict[_Running, list[str]] = {}
    ends = []
    for running, brought in entries:
        if brought.texts:
            texts.setdefault(running, []).extend(brought.texts)
        else:
            ends.append((running, brought))
    return [(running, Brought(0, ["".join(pieces)])) for running, pieces in texts.items()] + ends


class _Connection(asyncio.Protocol):
    """A client."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._rest = b""
        self._open = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @property
    def is_behind(self) -> bool:
        """It has not read what it was sent."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def write(self, data: bytes) -> None:
        """To the socket."""
        if self._transport is not None and data:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        """A handshake, then masked text frames; a close ends it."""
        data = self._rest + data
        if not self._open:
            head, blank, data = data.partition(b"\r\n\r\n")
            key = _KEY.search(head)
            assert blank
            assert key is not None
            accept = base64.b64encode(hashlib.sha1(key[1] + _GUID, usedforsecurity=False).digest())
            self.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept
            )
            self._open = True
        self._rest = self._split(data)

    def _split(self, data: bytes) -> bytes:
        at = 0
        while len(data) - at >= 2:
            length, payload = data[at + 1] & 127, at + 2
            if length > 125:
                payload += 2 if length == 126 else 8
                if payload > len(data):
                    break
                length = int.from_bytes(data[at + 2 : payload], "big")
            end = payload + 4 + length
            if end > len(data):
                break
            self._hear(data[payload : payload + 4], data[payload + 4 : end])
            at = end
        return data[at:]

    def _hear(self, mask: bytes, payload: bytes) -> None:
        whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
        text = (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(payload), "big")
        request = _decode(text)
        reply: dict[str, object] = {"unique_request_id": request.unique_request_id}
        match request.type:
            case "generate":
                self.write(frame(_encode({"type": "generate_ack", **reply})))
                self._relay.generate(self, request)
            case "load":
                done = {"type": "load_done", **reply, "is_error": False, "error": "SUCCESS"}
                self.write(frame(_encode({"type": "load_ack", **reply})) + frame(_encode(done)))
            case _:
                self.write(frame(_encode({"type": f"{request.type}_ack", **reply})))


async def _serve(arguments: list[str]) -> None:
    keep_what_reads_take()
    loop = asyncio.get_running_loop()
    argv, env = program("benchmarks.bare.worker", *arguments)
    transport, relay = await loop.subprocess_exec(Relay, *argv, env=env, stderr=None)
    await relay.ready.wait()
    server = await loop.create_server(lambda: _Connection(relay), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await end_of_input()
    transport.close()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1:]))
