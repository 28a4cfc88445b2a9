"""Text frames of our own, many in one write, on a connection of the library that is open and does nothing to frames.

The library's `send` costs ten times as much, one message at a time. What is used of it is public: `state`, `transport`
and `drain`; the connection must have no extension, and nobody may send it a message in fragments.
"""

from collections.abc import Iterable
from typing import Final

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

# RFC 6455, 5.2: FIN and the opcode of text; the length in 7, 16 or 64 bits; a server masks nothing.
_TEXT: Final = 0x81
_IN_16_BITS: Final = 126
_IN_64_BITS: Final = 127


def _head(length: int) -> bytes:
    if length < _IN_16_BITS:
        return bytes((_TEXT, length))
    if length < 1 << 16:
        return bytes((_TEXT, _IN_16_BITS)) + length.to_bytes(2, "big")
    return bytes((_TEXT, _IN_64_BITS)) + length.to_bytes(8, "big")


# A chunk of a stream is nearly always this short.
_HEADS: Final = tuple(_head(length) for length in range(512))


def text_frames(messages: Iterable[bytes]) -> list[bytes]:
    """One text frame for each of these UTF-8 messages, as parts to be joined: its head, then the message."""
    parts: list[bytes] = []
    for message in messages:
        length = len(message)
        parts.append(_HEADS[length] if length < 512 else _head(length))
        parts.append(message)
    return parts


def is_open(socket: ServerConnection) -> bool:
    """Whether text may be written to it: its closing handshake has not begun."""
    return socket.state is State.OPEN


def write_texts(socket: ServerConnection, messages: list[bytes]) -> None:
    """Hand these messages to an open socket, one text frame each, in one write; never waits.

    `socket.drain()` waits until the client may be sent more.
    """
    socket.transport.write(b"".join(text_frames(messages)))
