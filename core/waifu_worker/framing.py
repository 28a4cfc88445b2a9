"""Lines on a pipe: one JSON object each, with a hard limit on their length. Pure."""

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from waifu_worker.wire import MAX_LINE_BYTES, FromGateway, FromWorker, ToGateway, ToWorker

_encoder: Final = msgspec.json.Encoder()
_to_worker: Final[msgspec.json.Decoder[ToWorker]] = msgspec.json.Decoder(ToWorker)
_from_worker: Final[msgspec.json.Decoder[FromWorker]] = msgspec.json.Decoder(FromWorker)
_to_gateway: Final[msgspec.json.Decoder[ToGateway]] = msgspec.json.Decoder(ToGateway)
_from_gateway: Final[msgspec.json.Decoder[FromGateway]] = msgspec.json.Decoder(FromGateway)

decode_to_worker: Final[Callable[[bytes], ToWorker]] = _to_worker.decode
decode_from_worker: Final[Callable[[bytes], FromWorker]] = _from_worker.decode
decode_to_gateway: Final[Callable[[bytes], ToGateway]] = _to_gateway.decode
decode_from_gateway: Final[Callable[[bytes], FromGateway]] = _from_gateway.decode

Message: TypeAlias = ToWorker | FromWorker | ToGateway | FromGateway

# msgspec raises three unrelated classes for bad input: catching only the first lets one bad byte, or a
# hundred thousand brackets, end a reader.
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class LineTooLong(Exception):
    """A line went over the limit, or a message would make one."""


def encode(message: Message) -> bytes:
    """One message as one line, with its newline.

    Lone surrogates become U+FFFD, so that no text a model or a client gives can break the wire.
    Raises: LineTooLong.
    """
    try:
        line = _encoder.encode(message)
    except UnicodeEncodeError:
        line = _encoder.encode(_without_surrogates(message))
    if len(line) > MAX_LINE_BYTES:
        raise LineTooLong(f"a message of {len(line)} bytes is over the limit of {MAX_LINE_BYTES}")
    return line + b"\n"


def _without_surrogates(message: Message) -> object:
    return _clean(msgspec.to_builtins(message))


def _clean(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list() | tuple():
            return [_clean(item) for item in value]
        case dict():
            return {_clean(key): _clean(item) for key, item in value.items()}
        case _:
            return value


class LineSplitter:
    """Splits a byte stream into lines without their newline; holds at most one line of `limit` bytes."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes.

        Raises: LineTooLong, after which the splitter must not be used again.
        """
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._parts:
            self._parts.append(lines[0])
            lines[0] = b"".join(self._parts)
            self._parts, self._held = [], 0
        if rest:
            self._parts.append(rest)
            self._held += len(rest)
        if self._held > self._limit or max(map(len, lines), default=0) > self._limit:
            raise LineTooLong(f"a line is over the limit of {self._limit} bytes")
        return lines
