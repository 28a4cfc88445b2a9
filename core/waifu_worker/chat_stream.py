"""Reads the answer of an OpenAI-style API: bytes in, pieces of text and the way it ended out. Pure."""

import json
from typing import Any, Final

import msgspec

from waifu_worker.framing import DECODE_ERRORS
from waifu_worker.http_errors import Refusal, details_of, failure, read_details
from waifu_worker.provider import Finish, ProviderError
from waifu_worker.sse import Events, EventSplitter, EventTooLong
from waifu_worker.upstream import Upstream
from waifu_worker.wire import Code, Usage

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_REASONS: Final = {"length": "length", "max_tokens": "length", "content_filter": "content_filter"}
_THINK: Final = "<think>"
_LONGEST_OPENING: Final = 32
_BROKEN_OFF: Final = frozenset({"error", "insufficient_system_resource"})


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: object = None
    error: object = None
    x_groq: object = None


_decode: Final = msgspec.json.Decoder(_Event).decode


class AnswerReader:
    """Collects one answer. `failure` is set where the service broke off.

    `ended`: the service said that the answer is complete; `done`: it said that nothing more comes.
    """

    def __init__(self, upstream: Upstream, model: str) -> None:
        self.failure: ProviderError | None = None
        self.ended = False
        self.done = False
        self._upstream = upstream
        self._model = model
        self._splitter = EventSplitter()
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._opening = ""
        self._half = ""
        self._cut = False

    @property
    def thinks_in_text(self) -> bool:
        """Whether the text begins with the model's thinking."""
        return self._opening.lstrip().startswith(_THINK)

    @property
    def over(self) -> bool:
        """Whether no more text is to be expected."""
        return self.ended or self._cut or self.failure is not None

    def feed(self, data: bytes) -> list[str]:
        """The pieces of text in one read of the stream, never empty ones."""
        try:
            events = self._splitter.feed(data)
        except EventTooLong as error:
            self._fail(f"{self._upstream.title} sends what never ends ({error})")
            return []
        return self._texts(events)

    def end(self) -> list[str]:
        """The text in what the end of the stream leaves; half an event is no failure but a cut."""
        self._cut = True
        return self._texts(self._splitter.finish())

    def whole(self, body: bytes) -> list[str]:
        """The text of an answer that came as one JSON body, from a service that doesn't stream."""
        texts = self._texts(Events([body]))
        self.ended = self.done = True
        return texts

    def finish(self, max_output_length: int) -> Finish:
        """The end of a complete answer. Raises: ProviderError where it is a failure all the same."""
        match self._reason:
            case reason if reason in _BROKEN_OFF:
                raise ProviderError(
                    Code.UNEXPECTED,
                    f"{self._upstream.title} broke the answer off ({reason}). Try again.",
                    reason="provider_down",
                )
            case "content_filter" if not self._opening:
                raise ProviderError(
                    Code.INVALID_PROMPT,
                    f"{self._upstream.title} withholds the answer by its policy. Change the messages.",
                    reason="refused",
                )
        reason = None if self._reason is None else _REASONS.get(self._reason, "stop")
        warning = None
        if reason == "length" and not self._opening:
            warning = (
                f"the answer is empty: the model used all {max_output_length} tokens before its first word,"
                " as models that think do. Raise max_output_length."
            )
        return Finish(reason=reason, usage=self._usage, warning=warning)

    def _texts(self, events: Events) -> list[str]:
        texts: list[str] = []
        data, left = events.data, iter(events.data)
        place = 0
        # All that can be decoded at one go is; what can't be is looked at more closely, and then on with the rest.
        while place < len(data):
            decoded: list[_Event] = []
            odd = False
            try:
                decoded.extend(map(_decode, left))
            except DECODE_ERRORS:
                odd = True
            self._take(events, place, decoded, texts)
            place += len(decoded)
            if self.failure is not None:
                break
            if odd and not self._odd(events.names.get(place, b""), data[place], texts):
                break
            place += 1
        if len(self._opening) < _LONGEST_OPENING:
            self._opening = (self._opening + "".join(texts))[:_LONGEST_OPENING]
        return texts

    def _take(self, events: Events, first: int, decoded: list[_Event], texts: list[str]) -> None:
        """The text of events, of which the first is the one at `first`; up to a failure."""
        names, half = events.names, self._half
        for place, event in enumerate(decoded, first):
            if event.choices:
                choice = event.choices[0]
                text = None if choice.delta is None else choice.delta.content
                if text and not half and choice.finish_reason is None:
                    texts.append(text)
                else:
                    self._choice(choice, texts)
            if names or event.error is not None or event.usage is not None or event.x_groq is not None:
                self._beside(names.get(place, b""), events.data[place], event)
                if self.failure is not None:
                    return

    def _choice(self, choice: _Choice, texts: list[str]) -> None:
        delta = choice.delta or choice.message
        text = choice.text if delta is None else delta.content or delta.refusal or choice.text
        if text:
            if self._half:
                text, self._half = _REPLACEMENT + text, ""
            texts.append(text)
        if choice.finish_reason is not None:
            self._reason = choice.finish_reason
            self.ended = True

    def _beside(self, name: bytes, data: bytes, event: _Event) -> None:
        """What few events have: an error, the usage, a name."""
        extra = event.x_groq if isinstance(event.x_groq, dict) else {}
        error = event.error if event.error is not None else extra.get("error")
        if name == b"error" or error is not None:
            details = read_details(data) if error is None else details_of(error)
            self.failure = failure(self._upstream, Refusal(None, details, model=self._model))
        self._usage = _usage(event.usage or extra.get("usage")) or self._usage

    def _odd(self, name: bytes, data: bytes, texts: list[str]) -> bool:
        """An event that the fast decoder refuses; false where the stream can't be read on."""
        if data.strip() == b"[DONE]":
            self.ended = self.done = True
            return True
        if name == b"error":
            details = details_of(data.decode("utf-8", "replace"))
            self.failure = failure(self._upstream, Refusal(None, details, model=self._model))
            return False
        if name not in (b"", b"message"):
            return True
        try:
            event = msgspec.convert(_with_texts(json.loads(data)), _Event)
        except (ValueError, RecursionError, msgspec.ValidationError):
            if self._cut:
                return False
            self._fail(f"{self._upstream.title} sends an event that is no JSON of its kind")
            return False
        if event.choices:
            self._halved(event.choices[0], texts)
        self._beside(name, data, event)
        return self.failure is None

    def _halved(self, choice: _Choice, texts: list[str]) -> None:
        """Text with half a surrogate pair: services cut between the escapes of one character."""
        found: list[str] = []
        half, self._half = self._half, ""
        self._choice(choice, found)
        text = half + "".join(found)
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if text:
            texts.append(text)

    def _fail(self, what: str) -> None:
        self.failure = ProviderError(Code.UNEXPECTED, f"{what}. Try again, or check base_url.")


def _with_texts(event: object) -> object:
    """The event with content that is a list of parts joined to the text in it, without what the model thinks."""
    for choice in _items(event, "choices"):
        for kind in ("delta", "message"):
            said = choice.get(kind)
            if isinstance(said, dict) and isinstance(said.get("content"), list):
                said["content"] = "".join(
                    str(part.get("text", "")) for part in _items(said, "content") if part.get("type") == "text"
                )
    return event


def _items(value: object, key: str) -> list[dict[str, Any]]:
    """The objects in the list under `key`."""
    found = value.get(key) if isinstance(value, dict) else None
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _usage(value: object) -> Usage | None:
    """Token counts where they are what they should be; a service's slip there costs no answer."""
    try:
        counts = msgspec.convert(value, _Counts)
    except (msgspec.ValidationError, UnicodeError):  # the latter for a name with half a surrogate pair in it
        return None
    total = counts.prompt_tokens + counts.completion_tokens
    return Usage(
        prompt_tokens=counts.prompt_tokens,
        completion_tokens=counts.completion_tokens,
        total_tokens=counts.total_tokens or total,
    )


class _Counts(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int = 0
