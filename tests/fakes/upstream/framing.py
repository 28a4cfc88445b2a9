"""All the ways in which the same server-sent events may come over the network. Pure."""

import random
from dataclasses import dataclass, replace
from typing import Final

# Every one of these must give the same text.
FRAMES: Final = (
    "normal",
    "one-chunk",
    "bytes",
    "random",
    "inside",
    "joined",
    "crlf",
    "crlf-bytes",
    "cr",
    "no-space",
    "comments",
    "fields",
    "split-data",
    "byte-order-mark",
    "unterminated",
    "escaped",  # characters beyond ASCII as JSON escapes
    "halved",  # the same, with each half of a surrogate pair in an event of its own
)


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    data: bytes
    name: str = ""
    id: str = ""


def pieces(events: list[Event], frame: str, seed: int) -> list[bytes]:
    """The HTTP chunks of a stream: what the events are made into, and how that is cut."""
    blocks = [_block(event, number, frame) for number, event in enumerate(events)]
    if frame == "byte-order-mark" and blocks:
        blocks[0] = b"\xef\xbb\xbf" + blocks[0]
    if frame == "unterminated" and blocks:
        blocks[-1] = blocks[-1].rstrip(b"\n")
    return cut(blocks, frame, random.Random(seed))


def _block(event: Event, number: int, frame: str) -> bytes:
    match frame:
        case "no-space":
            return b"data:" + event.data + b"\n\n"
        case "comments":
            return b": keep-alive\n\n\n\n" + _plain(event) + b":\n: PROCESSING\n\n"
        case "fields":
            return _in_odd_order(event, number)
        case "split-data":
            return b"data: " + event.data.replace(b",", b",\ndata: ", 1) + b"\n\n"
        case "crlf" | "crlf-bytes":
            return _plain(event).replace(b"\n", b"\r\n")
        case "cr":
            return _plain(event).replace(b"\n", b"\r")
    return _plain(event)


def _plain(event: Event) -> bytes:
    name = f"event: {event.name}\n".encode() if event.name else b""
    number = f"id: {event.id}\n".encode() if event.id else b""
    return name + number + b"data: " + event.data + b"\n\n"


def _in_odd_order(event: Event, number: int) -> bytes:
    event = replace(event, name=event.name or "message", id=event.id or str(number))
    lines = [b"id: " + event.id.encode(), b"data: " + event.data, b"event: " + event.name.encode(), b"retry: 3000"]
    turn = number % len(lines)
    return b"\n".join(lines[turn:] + lines[:turn]) + b"\n\n"


def cut(blocks: list[bytes], frame: str, chance: random.Random) -> list[bytes]:
    """The HTTP chunks of these blocks, wherever the frame wants a border."""
    whole = b"".join(blocks)
    match frame:
        case "one-chunk":
            return [whole]
        case "bytes" | "crlf-bytes":
            return [bytes([byte]) for byte in whole]
        case "joined":
            return [b"".join(blocks[i : i + 3]) for i in range(0, len(blocks), 3)]
        case "random":
            return _at(whole, sorted(chance.sample(range(1, len(whole)), min(40, len(whole) - 1))))
        case "inside":
            return _at(
                whole, [i for i in range(1, len(whole)) if whole[i] & 0xC0 == 0x80 or whole[:i].endswith(b"\nda")]
            )
    return blocks


def _at(whole: bytes, places: list[int]) -> list[bytes]:
    return [whole[start:end] for start, end in zip([0, *places], [*places, len(whole)], strict=True)]
