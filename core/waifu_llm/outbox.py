"""What waits to be written to one client, in order. Pure: it knows no socket and no clock."""

from collections.abc import Sequence
from typing import Final

from waifu_client.protocol import AnyReply, RequestId, encode_chunks, encode_reply

# A joined chunk stays far below the message limits that client libraries have by default (1 MiB).
_LONGEST_JOINED_BYTES: Final = 64 * 1024


class _Text:
    """Chunks of one stream that came while the client was behind: they leave as one."""

    __slots__ = ("pieces", "place", "request_id", "size")

    def __init__(self, place: int, request_id: RequestId, text: str, size: int) -> None:
        self.place = place
        self.request_id = request_id
        self.pieces = [text]
        self.size = size

    def encode(self) -> bytes:
        return encode_chunks(self.request_id, ("".join(self.pieces),))[0]


class Outbox:
    """The replies that one client has not been sent yet.

    A batch is everything that waits; from `take` to `written` the client counts as behind, and the chunks of one
    stream that come in between are joined into fewer, larger ones: a stream's text keeps its order and its
    place before its terminal message. `limit` is in bytes.
    `overflowing`: a message came while a client that is behind had more than the limit waiting already. The newest
    message itself does not count: one that is larger than the limit reaches a client that reads.
    """

    __slots__ = ("_behind", "_entries", "_joining", "_limit", "_texts", "_waiting", "overflowing")

    def __init__(self, limit: int) -> None:
        self.overflowing = False
        self._limit = limit
        self._entries: list[bytes] = []
        # Those that have a place among the entries already, and of each stream the one that still takes more.
        self._texts: list[_Text] = []
        self._joining: dict[object, _Text] = {}
        self._waiting = 0
        self._behind = False

    @property
    def waiting_bytes(self) -> int:
        """How much waits, the batch that is being written not included."""
        return self._waiting

    @property
    def waits(self) -> bool:
        """There is something to be taken."""
        return bool(self._entries)

    def put(self, reply: AnyReply) -> None:
        """Add a message that is not a chunk."""
        data = encode_reply(reply)
        if self._behind and self._waiting > self._limit:
            self.overflowing = True
        self._waiting += len(data)
        self._entries.append(data)

    def put_chunks(self, stream: object, request_id: RequestId, texts: Sequence[str]) -> None:
        """Add chunks of `stream`, a key that no two streams share (ids come back after their terminal message)."""
        if self._behind:
            few = sum(map(len, texts)) <= _LONGEST_JOINED_BYTES // 4
            for text in ("".join(texts),) if few else texts:
                self._join(stream, request_id, text)
        else:
            messages = encode_chunks(request_id, texts)
            self._waiting += sum(map(len, messages))
            self._entries += messages

    def _join(self, stream: object, request_id: RequestId, text: str) -> None:
        size = len(text) if text.isascii() else len(text.encode())
        if self._waiting > self._limit:
            self.overflowing = True
        self._waiting += size
        open_text = self._joining.get(stream)
        if open_text is not None and open_text.size + size <= _LONGEST_JOINED_BYTES:
            open_text.pieces.append(text)
            open_text.size += size
            return
        self._joining[stream] = new = _Text(len(self._entries), request_id, text, size)
        self._texts.append(new)
        self._entries.append(b"")

    def take(self) -> list[bytes]:
        """All that waits, as frames to write in this order; `written` follows before the next `take`."""
        batch, self._entries = self._entries, []
        if self._texts:
            for text in self._texts:
                batch[text.place] = text.encode()
            self._texts.clear()
            self._joining.clear()
        self._waiting = 0
        self._behind = True
        return batch

    def written(self) -> None:
        """The whole batch left: the client is not behind any more."""
        self._behind = False

    def discard(self) -> None:
        """The client is gone or given up: forget what waits."""
        self._entries.clear()
        self._texts.clear()
        self._joining.clear()
        self._waiting = 0
        self.overflowing = False
