"""Prompts and answers in the log, for those who set `log.content`: a line each, at the level debug, cut where long."""

import json
import logging
from collections.abc import Sequence
from typing import Final

from waifu_llm.supervision.jobs import Ending, Job, Sink

_LONGEST: Final = 16 * 1024
_log = logging.getLogger(__name__)


def logged(sink: Sink, provider: str, job: Job) -> Sink:
    """The sink of a generation whose prompt is logged now, and its answer when it ends."""
    if not _log.isEnabledFor(logging.DEBUG):
        return sink
    what = f"{provider}, {job.params.model_id}"
    prompt = job.prompt if job.prompt is not None else [[turn.role, turn.content] for turn in job.messages]
    _log.debug("prompt (%s): %s", what, _one_line(prompt))
    return _Logged(sink, what)


class _Logged:
    """Hands on what it hears, and keeps the beginning of it."""

    __slots__ = ("_kept", "_sink", "_text", "_what")

    def __init__(self, sink: Sink, what: str) -> None:
        self._sink = sink
        self._what = what
        self._text: list[str] = []
        self._kept = 0

    def chunks(self, texts: Sequence[str]) -> None:
        if self._kept <= _LONGEST:
            self._text.extend(texts)
            self._kept += sum(map(len, texts))
        self._sink.chunks(texts)

    def ended(self, ending: Ending) -> None:
        outcome = "SUCCESS" if ending.failure is None else str(ending.failure.code)
        _log.debug("answer (%s, %s): %s", self._what, outcome, _one_line("".join(self._text)))
        self._sink.ended(ending)


def _one_line(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"
