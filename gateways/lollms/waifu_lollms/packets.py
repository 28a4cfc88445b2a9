"""What clients may send: engine.io packets and the Socket.IO packets in them. Pure.

The library leaves its connections in odd states on packets that no client of it can send (a binary event without its
attachments wedges a session, an event named `connect` reaches the connect handler), so that what is malformed is
found here, before it.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Final

from socketio.packet import BINARY_EVENT, CONNECT, DISCONNECT, EVENT
from socketio.packet import Packet as LibraryPacket

# The one name under which every event reaches its handler; the client's own name is its first argument.
EVENT_NAME: Final = "event"
MOST_PACKETS: Final = 16
MOST_ATTACHMENTS: Final = 10
_DEEPEST: Final = 100
_LONGEST_INTEGER: Final = 100
_SEPARATOR: Final = "\x1e"
_PROBE: Final = "2probe"
_UPGRADE: Final = "5"
_SOCKET_IO_TYPES: Final = frozenset("0123456")


class Malformed(ValueError):
    """No client of the protocol sends this; it costs the sender the connection."""


class Stage(Enum):
    """How far a WebSocket is that takes a polling session over; a fresh one is OPEN from the start."""

    PROBE = auto()
    UPGRADE = auto()
    OPEN = auto()


def next_stage(stage: Stage, frame: str | bytes) -> Stage:
    """The stage after this frame of a WebSocket. Raises: Malformed."""
    match stage:
        case Stage.PROBE if frame == _PROBE:
            return Stage.UPGRADE
        case Stage.UPGRADE if frame == _UPGRADE:
            return Stage.OPEN
        case Stage.OPEN if isinstance(frame, bytes):
            return Stage.OPEN
        case Stage.OPEN if isinstance(frame, str):
            _check_text(frame)
            return Stage.OPEN
        case _:
            raise Malformed("an unexpected frame in an upgrade")


def check_payload(body: bytes) -> None:
    """The body of a polling POST. Raises: Malformed."""
    try:
        packets = body.decode("utf-8").split(_SEPARATOR)
    except UnicodeDecodeError as error:
        raise Malformed("a payload that is no UTF-8") from error
    if len(packets) > MOST_PACKETS:
        raise Malformed("too many packets in one payload")
    for packet in packets:
        if packet.startswith("b"):
            _check_base64(packet[1:])
        else:
            _check_text(packet)


def _check_base64(text: str) -> None:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("an attachment that is no base64") from error


def _check_text(packet: str) -> None:
    match packet[:1]:
        case "4":
            # Only then the library hands the text on as it is, instead of reading it as JSON.
            if packet[1:2] not in _SOCKET_IO_TYPES or len(packet) < 2:
                raise Malformed("a message that is no Socket.IO packet")
        case "1" | "3":
            if len(packet) > 1:
                raise Malformed("an engine.io packet with content that has none")
        case _:
            raise Malformed("an engine.io packet that no client sends")


class Json:
    """The library's JSON: what `json` does, except that no text of a client raises anything but ValueError, and that
    halves of surrogate pairs, which could be written nowhere, become question marks."""

    @staticmethod
    def dumps(value: object, **options: Any) -> str:
        """Raises: TypeError, ValueError where it is no JSON."""
        return json.dumps(value, allow_nan=False, **options)

    @staticmethod
    def loads(text: str, **options: Any) -> object:
        """Raises: ValueError."""
        try:
            value = json.loads(text, parse_int=_number, **options)
            return _whole(value) if "\\u" in text else value
        except RecursionError as error:
            raise ValueError("nested too deep") from error


def _number(digits: str) -> int | float:
    """Nobody means a number of thousands of digits, which would cost time; as a float it is too large everywhere."""
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


def _whole(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case list():
            return [_whole(item) for item in value]
        case dict():
            return {_whole(key): _whole(item) for key, item in value.items()}
        case _:
            return value


class Packet(LibraryPacket):  # type: ignore[misc]  # the library has no types
    """A Socket.IO packet as both sides see it, except that all of a client's events arrive as EVENT_NAME.

    So no client reaches another handler by the name of its event, whatever that is: `connect`, or no text at all.
    """

    json = Json
    data: Any

    def __init__(self, *content: Any, encoded_packet: object = None, **more: Any) -> None:
        super().__init__(*content, **more)
        # The library takes an empty one for none.
        if encoded_packet is not None:
            self.attachment_count = self.decode(encoded_packet)

    def decode(self, encoded_packet: object) -> int:
        """The number of attachments that follow. Raises: Malformed."""
        if not isinstance(encoded_packet, str):
            raise Malformed("an attachment that belongs to no event")
        try:
            count: int = super().decode(encoded_packet) or 0
        except (ValueError, RecursionError) as error:
            raise Malformed("a packet that cannot be read") from error
        if self.packet_type in (EVENT, BINARY_EVENT):
            self._check_event(count)
            self.data = [EVENT_NAME, *self.data]
        elif self.packet_type not in (CONNECT, DISCONNECT) or count:
            raise Malformed("a packet that no client sends")
        return count

    def add_attachment(self, attachment: object) -> bool:
        """Whether it was the last one. Raises: Malformed."""
        if not isinstance(attachment, bytes):
            raise Malformed("a packet where an attachment is due")
        return bool(super().add_attachment(attachment))

    def _check_event(self, count: int) -> None:
        if not isinstance(self.data, list) or not self.data or self.namespace not in (None, "/"):
            raise Malformed("an event without a name, or in a namespace that nobody may enter")
        if (self.packet_type == BINARY_EVENT) != bool(count) or count > MOST_ATTACHMENTS:
            raise Malformed("attachments that are none, or too many")
        if count:
            _check_placeholders(self.data, count, _DEEPEST)


def _check_placeholders(value: object, count: int, depth: int) -> None:
    if not depth:
        # The library would find out only once the attachments came.
        raise Malformed("too deep an event")
    if isinstance(value, list):
        for item in value:
            _check_placeholders(item, count, depth - 1)
    elif isinstance(value, dict):
        if value.get("_placeholder") and "num" in value:
            number = value["num"]
            if type(number) is not int or not 0 <= number < count:
                raise Malformed("an attachment that does not come")
        else:
            _check_placeholders(list(value.values()), count, depth - 1)


def encode_event(name: str, payload: Mapping[str, object]) -> str:
    """One event to a client, whose payload holds no bytes. Raises: TypeError, ValueError where it is no JSON."""
    encoded: str = Packet(EVENT, data=[name, payload], binary=False).encode()
    return encoded


def event_name(value: object) -> str:
    """The name of a client's event as text; one that is none (a number, a list) stays recognizable and unknown."""
    return value if isinstance(value, str) else json.dumps(value, default=repr)[:64]
