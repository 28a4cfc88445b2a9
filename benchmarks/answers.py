"""The bytes that the benchmarks' upstream sends: an OpenAI-style API's answers, made before they are asked for."""

import functools
import json
from dataclasses import dataclass
from typing import Final

_EVENT_HEAD: Final = (
    '{"id":"chatcmpl-bench0000000000000000000000","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    '"service_tier":"default","system_fingerprint":"fp_bench","choices":[{"index":0,"delta":'
)
_EVENT_TAIL: Final = ',"logprobs":null,"finish_reason":null}]}\n\n'
_PIECE_BYTES: Final = 48 * 1024
STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"x-request-id: req_bench\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a model's name asks for, such as `n=2000,len=6`; the default is what a name without any of it gets.

    `n` chunks of `len` characters. `rate`: so many a second, 0 for as fast as they are taken; `ts`: 1 where each
    chunk's text says when it left (see `stamped`). `delay`: milliseconds before the answer.
    """

    n: int = 3
    len: int = 6
    rate: float = 0.0
    ts: int = 0
    delay: float = 0.0

    @classmethod
    def of(cls, model: str) -> "Wanted":
        """Read a model's name."""
        fields = dict(part.partition("=")[::2] for part in model.split(","))
        return cls(
            n=int(fields.get("n", 3)),
            len=int(fields.get("len", 6)),
            rate=float(fields.get("rate", 0)),
            ts=int(fields.get("ts", 0)),
            delay=float(fields.get("delay", 0)),
        )

    @property
    def model(self) -> str:
        """The model's name that asks for this."""
        return f"n={self.n},len={self.len},rate={self.rate:g},ts={self.ts},delay={self.delay:g}"


def chunk_text(number: int, length: int = 6) -> str:
    """The text of one chunk."""
    return f" t{number % 10000:04d}".ljust(length, "x")[:length]


@functools.lru_cache(maxsize=64)
def full_text(count: int, length: int = 6) -> str:
    """The text of a whole answer."""
    return "".join(chunk_text(number, length) for number in range(count))


def _event(delta: object) -> bytes:
    return f"data: {_EVENT_HEAD}{json.dumps(delta, separators=(',', ':'))}{_EVENT_TAIL}".encode()


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


STREAM_BEGIN: Final = STREAM_HEAD + _http_chunk(_event({"role": "assistant", "content": "", "refusal": None}))
STREAM_END: Final = (
    _http_chunk(_event({}).replace(b'"finish_reason":null', b'"finish_reason":"stop"'))
    + _http_chunk(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)
_STAMP_BEFORE, _STAMP_AFTER = _event({"content": "@\x00"}).split(b"\\u0000")


def chunk(number: int, length: int) -> bytes:
    """One event in an HTTP chunk of its own, as real services send them."""
    return _http_chunk(_event({"content": chunk_text(number, length)}))


def stamped(sent_us: int, late_us: int) -> bytes:
    """A chunk whose text is `@<sent>/<late>;`: microseconds of CLOCK_MONOTONIC, and how far behind its schedule."""
    return _http_chunk(b"%s%d/%d;%s" % (_STAMP_BEFORE, sent_us, late_us, _STAMP_AFTER))


@functools.lru_cache(maxsize=64)
def stream(count: int, length: int) -> tuple[bytes, ...]:
    """A whole streamed answer, in pieces of about the size of a socket's buffer."""
    pieces, piece = [], bytearray(STREAM_BEGIN)
    for number in range(count):
        piece += chunk(number, length)
        if len(piece) >= _PIECE_BYTES:
            pieces.append(bytes(piece))
            piece.clear()
    return (*pieces, bytes(piece) + STREAM_END)


@functools.lru_cache(maxsize=64)
def whole(count: int, length: int) -> bytes:
    """An answer that is not streamed."""
    message = {"role": "assistant", "content": full_text(count, length), "refusal": None}
    return as_json(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1700000000,
            "model": "bench",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": count + 9},
        }
    )


def as_json(document: object, status: int = 200) -> bytes:
    """A response with a JSON body."""
    body = json.dumps(document).encode()
    return (
        b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nx-request-id: req_bench\r\nContent-Length: %d\r\n\r\n%s"
        % (status, len(body), body)
    )


MODELS: Final = as_json(
    {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": 1700000000, "owned_by": "bench"}
            for name in ("gpt-4o-mini", "n=100,delay=0,rate=0")
        ],
    }
)
NOT_FOUND: Final = as_json({"error": {"message": "not found"}}, 404)
