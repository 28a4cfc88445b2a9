"""Reads an answer of NovelAI's older route: bytes in, pieces of text and the way it ended out. Pure."""

import json
from typing import Final

import msgspec

from waifu_worker.framing import DECODE_ERRORS
from waifu_worker.http_errors import Refusal, details_of, failure
from waifu_worker.provider import ProviderError
from waifu_worker.sse import MAX_EVENT_BYTES, Events, EventSplitter, EventTooLong
from waifu_worker.upstream import Upstream
from waifu_worker.wire import Code

_OURS: Final = (b"", b"newToken", b"message")


class _Token(msgspec.Struct, gc=False):
    token: str | None = None
    output: str | None = None
    final: bool | None = None
    error: object = None
    message: object = None
    statusCode: object = None


_decode: Final = msgspec.json.Decoder(_Token).decode


class TokenReader:
    """Collects one answer. `ended`: the service said so; `failure`: it broke off; `tokens`: how many came."""

    def __init__(self, upstream: Upstream, model: str) -> None:
        self.ended = False
        self.failure: ProviderError | None = None
        self.tokens = 0
        self._upstream = upstream
        self._model = model
        self._splitter = EventSplitter()
        self._cut = False
        # What began like JSON: an answer, or an error, in one piece. The content type is not to be relied upon.
        self._whole: bytearray | None = None
        self._begun = False

    @property
    def over(self) -> bool:
        """Whether no more text is to be expected."""
        return self.ended or self._cut or self.failure is not None

    def feed(self, data: bytes) -> list[str]:
        """The pieces of text in one read of the stream."""
        if not self._begun and not data.isspace():
            self._begun = True
            self._whole = bytearray() if data.lstrip().startswith(b"{") else None
        if self._whole is not None:
            self._whole += data
            if len(self._whole) > MAX_EVENT_BYTES:
                self._fail("NovelAI sends an answer that never ends")
            return []
        try:
            return self._texts(self._splitter.feed(data))
        except EventTooLong as error:
            self._fail(f"NovelAI sends what never ends ({error})")
            return []

    def end(self) -> list[str]:
        """The text in what the end of the stream leaves; half an event is no failure but a cut."""
        self._cut = True
        return self._texts(self._splitter.finish() if self._whole is None else Events([bytes(self._whole)]))

    def _texts(self, events: Events) -> list[str]:
        texts: list[str] = []
        for name, data in events:
            if name == b"error":
                self._failed(data)
            elif not self.over or self._cut:
                self._take(name, data, texts)
            if self.failure is not None:
                break
        return texts

    def _take(self, name: bytes, data: bytes, texts: list[str]) -> None:
        try:
            token = _decode(data)
        except DECODE_ERRORS:
            found = _decode_slowly(data)
            if found is None:
                # Half an event at the end is a cut, and an event of a kind that is not known is none of ours.
                if name in _OURS and not self._cut:
                    self._fail("NovelAI sends an event that is no JSON of its kind")
                return
            token = found
        if token.error is not None or (token.statusCode is not None and token.message is not None):
            self._failed(data)
            return
        text = token.token or token.output
        if text:
            self.tokens += 1
            texts.append(text)
        self.ended = self.ended or bool(token.final) or token.output is not None

    def _failed(self, data: bytes) -> None:
        try:
            details = details_of(json.loads(data))
        except (ValueError, RecursionError):
            details = details_of(data.decode("utf-8", "replace"))
        self.failure = failure(self._upstream, Refusal(None, details, model=self._model))

    def _fail(self, what: str) -> None:
        self.failure = ProviderError(Code.UNEXPECTED, f"{what}. Try again, or check base_url.")


def _decode_slowly(data: bytes) -> _Token | None:
    """What the fast decoder refuses: text with half a surrogate pair, which whoever reads it joins."""
    try:
        return msgspec.convert(json.loads(data), _Token)
    except (ValueError, RecursionError, msgspec.ValidationError):
        return None
