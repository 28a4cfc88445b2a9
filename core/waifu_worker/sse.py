"""Server-sent events out of raw bytes: split at LF, CR and CRLF only, whole buffers at once. Pure.

Text splitters are of no use here: they also split at U+0085 and U+2028, which a model may well write.
"""

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

# (name, data): the name is b"" where the event has none; several data lines are joined with LF.
Event: TypeAlias = tuple[bytes, bytes]

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# Numbers: to find bytes in bytes, `in` first makes an error of them, since they are no number.
_CR: Final = ord("\r")
_LF: Final = ord("\n")


class EventTooLong(Exception):
    """An event went over the limit; whoever sends it will never end it."""


class Events(msgspec.Struct, frozen=True):
    """Events in their order: the `data` of each, and the `names` of those few that have one, by their place."""

    data: list[bytes]
    names: dict[int, bytes] = {}

    def __iter__(self) -> Iterator[Event]:
        return ((self.names.get(place, b""), data) for place, data in enumerate(self.data))


class EventSplitter:
    """Splits a byte stream into events; holds at most one event of `limit` bytes and one read."""

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._held = 0
        self._newline = b""
        self._after_cr = False

    def feed(self, data: bytes) -> Events:
        """The events that `data` completes.

        Raises: EventTooLong, after which the splitter must not be used again.
        """
        if self._after_cr or _CR in data:
            data = self._with_lf_only(data)
        whole, ended, rest = (self._newline + data).rpartition(b"\n\n")
        if ended and self._parts:
            whole = b"".join((*self._parts, whole))
            self._parts, self._held = [], 0
        self._hold(rest)
        if whole.startswith(b"data: "):
            # Nearly always every event is one line of data: then nothing has to look at each of them.
            events = whole.split(b"\n\ndata: ")
            events[0] = events[0][6:]
            if _LF not in b"".join(events):
                return Events(events)
        return _events(whole.split(b"\n\n"))

    def finish(self) -> Events:
        """What the end of the stream leaves: many servers send no blank line after their last event."""
        events = _events([b"".join(self._parts)])
        self._parts, self._held = [], 0
        return events

    def _hold(self, rest: bytes) -> None:
        # The line end goes before the next read, so that a blank line split over two reads is found without
        # joining and searching all that is held: a slow sender of a long event would cost quadratic time.
        self._newline = b"\n" if rest.endswith(b"\n") else b""
        rest = rest.removesuffix(b"\n")
        if rest:
            self._parts.append(rest)
            self._held += len(rest)
        if self._held > self._limit:
            raise EventTooLong(f"an event is over the limit of {self._limit} bytes")

    def _with_lf_only(self, data: bytes) -> bytes:
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _events(blocks: Iterable[bytes]) -> Events:
    found = [event for block in blocks if (event := _parse(block)) is not None]
    return Events([data for _, data in found], {place: name for place, (name, _) in enumerate(found) if name})


def _parse(block: bytes) -> Event | None:
    """An event with all its fields; None for one without data (comments, blank lines, ids)."""
    name = b""
    data: list[bytes] = []
    for line in block.removeprefix(_BYTE_ORDER_MARK).split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return (name, b"\n".join(data)) if data else None
