"""Reads what Ollama streams: JSON lines in, pieces of text and the way it ended out. Pure."""

import json
from typing import Any, Final

import msgspec

from waifu_ollama.failures import told
from waifu_worker.framing import LineSplitter, LineTooLong
from waifu_worker.http_errors import Refusal, details_of
from waifu_worker.provider import Finish, ProviderError
from waifu_worker.upstream import Upstream
from waifu_worker.wire import Code, Usage

_LONGEST_LINE: Final = 4 * 1024 * 1024


class Lines:
    """JSON lines out of raw bytes, split at LF only: a model may well write U+0085 or U+2028."""

    def __init__(self) -> None:
        self._splitter = LineSplitter(_LONGEST_LINE)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without empty ones. Raises: ProviderError for one that never ends."""
        try:
            lines = self._splitter.feed(data)
        except LineTooLong as error:
            raise broken(f"Ollama sends what never ends ({error})") from error
        return [line for line in lines if line and not line.isspace()]

    def finish(self) -> list[bytes]:
        """What the end of the stream leaves: the last line may come without its LF."""
        return self.feed(b"\n")


class _Message(msgspec.Struct, gc=False):
    content: str | None = None


class _Line(msgspec.Struct, gc=False):
    message: _Message | None = None
    response: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    error: object = None
    prompt_eval_count: object = None
    eval_count: object = None


_decode: Final = msgspec.json.Decoder(_Line).decode


class AnswerReader:
    """Collects one answer. `ended`: Ollama said that it is complete; `failure`: it broke off."""

    def __init__(self, upstream: Upstream, model: str) -> None:
        self.ended = False
        self.failure: ProviderError | None = None
        self._upstream = upstream
        self._model = model
        self._lines = Lines()
        self._cut = False
        self._any_text = False
        self._last = _Line()

    @property
    def over(self) -> bool:
        """Whether no more text is to be expected."""
        return self.ended or self._cut or self.failure is not None

    def feed(self, data: bytes) -> list[str]:
        """The pieces of text in one read of the stream; what ends it is b""."""
        texts: list[str] = []
        try:
            if not data:
                self._cut = True
            for line in self._lines.feed(data) if data else self._lines.finish():
                self._take(line, texts)
                if self.over and not self._cut:
                    break
        except ProviderError as error:
            self.failure = error
        self._any_text = self._any_text or bool(texts)
        return texts

    def finish(self, max_output_length: int) -> Finish:
        """The end of a complete answer."""
        reason = "length" if self._last.done_reason == "length" else "stop"
        warning = None
        if reason == "length" and not self._any_text:
            warning = (
                f"the answer is empty: the model used all {max_output_length} tokens before its first word,"
                " as models that think do. Raise max_output_length."
            )
        return Finish(reason, usage=self._usage(), warning=warning)

    def _take(self, raw: bytes, texts: list[str]) -> None:
        line = read_line(raw, _Line, _decode)
        if line is None:
            # Half a line at the end is a cut.
            if not self._cut:
                raise broken("Ollama sends a line that is no JSON of its kind")
            return
        if line.error is not None:
            raise told(self._upstream, Refusal(None, details_of(line.error), model=self._model))
        text = line.response if line.message is None else line.message.content
        if text:
            texts.append(text)
        if line.done:
            self.ended = True
            self._last = line

    def _usage(self) -> Usage | None:
        prompt, answer = self._last.prompt_eval_count or 0, self._last.eval_count or 0
        if not isinstance(prompt, int) or not isinstance(answer, int) or not (prompt or answer):
            return None
        return Usage(prompt_tokens=prompt, completion_tokens=answer, total_tokens=prompt + answer)


def read_line(raw: bytes, shape: Any, decode: Any) -> Any:
    """The line as `shape`, None where it is none. Half a surrogate pair is taken: whoever reads the text joins it."""
    try:
        return decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            return msgspec.convert(json.loads(raw), shape)
        except (ValueError, RecursionError, msgspec.ValidationError):
            return None


def broken(what: str) -> ProviderError:
    """The error for an answer that is not Ollama's."""
    return ProviderError(Code.UNEXPECTED, f"{what}. Try again, or check base_url.")
