"""Builds terminal messages. Every sentence that leaves goes through the redactor; model text never does."""

from collections.abc import Mapping
from typing import Final, TypedDict

from msgspec import UNSET, UnsetType

from waifu_client.protocol import (
    PROTOCOL_VERSION,
    ErrorCode,
    ErrorReply,
    GenerateDone,
    GenerateStreamDone,
    GetModelsDone,
    GetProvidersDone,
    LoadDone,
    LoadProgress,
    ModelDetails,
    ProviderDetails,
    RequestId,
    UnloadDone,
    Usage,
)
from waifu_llm.errors import Failure
from waifu_llm.redaction import Redactor
from waifu_llm.session.effects import GenerationTicket, LoadTicket
from waifu_llm.supervision import jobs

_LONGEST_SENTENCE: Final = 1000


class _Outcome(TypedDict, total=False):
    is_error: bool
    error: ErrorCode
    message: str
    reason: str
    retry_after_ms: int


class Replies:
    """The replies that carry an outcome or a text of ours."""

    __slots__ = ("_redactor",)

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def error(self, request_id: RequestId, failure: Failure) -> ErrorReply:
        """The answer to what cannot be answered in kind."""
        return ErrorReply(unique_request_id=request_id, **self._outcome(failure))

    def progress(self, ticket: LoadTicket, progress: jobs.LoadProgress) -> LoadProgress:
        """How far a load is."""
        return LoadProgress(
            unique_request_id=ticket.request_id,
            stage=progress.stage,
            detail=self._sentence(progress.detail),
            fraction=progress.fraction,
        )

    def load_done(
        self, request_id: RequestId, provider: str, failure: Failure | None, warning: str | None = None
    ) -> LoadDone:
        """A load's terminal message."""
        return LoadDone(
            unique_request_id=request_id, provider=provider, warning=self._warning(warning), **self._outcome(failure)
        )

    def generation_failed(
        self, request_id: RequestId, stream: bool, failure: Failure
    ) -> GenerateDone | GenerateStreamDone:
        """The terminal message of a generation that gave nothing, or nothing more."""
        if stream:
            return GenerateStreamDone(unique_request_id=request_id, **self._outcome(failure))
        return GenerateDone(unique_request_id=request_id, response="", **self._outcome(failure))

    def generation_ended(self, ticket: GenerationTicket, ending: jobs.Ending) -> GenerateDone | GenerateStreamDone:
        """The terminal message of a generation that the pool ended."""
        if ending.failure is not None:
            return self.generation_failed(ticket.request_id, ticket.stream, ending.failure)
        given = ending.usage
        usage = UNSET if given is None else Usage(given.prompt_tokens, given.completion_tokens, given.total_tokens)
        finish_reason = UNSET if ending.finish_reason is None else ending.finish_reason
        ignored = list(ending.ignored) if ending.ignored else UNSET
        if ticket.text is None:
            return GenerateStreamDone(
                unique_request_id=ticket.request_id,
                is_error=False,
                error=ErrorCode.SUCCESS,
                usage=usage,
                finish_reason=finish_reason,
                ignored=ignored,
            )
        return GenerateDone(
            unique_request_id=ticket.request_id,
            is_error=False,
            error=ErrorCode.SUCCESS,
            response=ticket.text.getvalue(),
            usage=usage,
            finish_reason=finish_reason,
            ignored=ignored,
        )

    def models_done(self, request_id: RequestId, models: jobs.ModelList | Failure) -> GetModelsDone:
        """The model ids, twice."""
        if isinstance(models, Failure):
            return GetModelsDone(unique_request_id=request_id, models=[], providers=[], **self._outcome(models))
        ids = [model.id for model in models.models]
        details = {
            model.id: ModelDetails(model.kind, model.owner, model.size_bytes, model.context) for model in models.models
        }
        return GetModelsDone(
            unique_request_id=request_id,
            models=ids,
            providers=ids,
            details=details,
            warning=self._warning(models.warning),
            **self._outcome(None),
        )

    def unload_done(self, request_id: RequestId, provider: str, failure: Failure | None) -> UnloadDone:
        """The provider's workers are stopped, or why not."""
        return UnloadDone(unique_request_id=request_id, provider=provider, **self._outcome(failure))

    def providers_done(self, request_id: RequestId, details: Mapping[str, ProviderDetails]) -> GetProvidersDone:
        """All providers there are, sorted."""
        return GetProvidersDone(
            unique_request_id=request_id,
            providers=sorted(details),
            details=dict(sorted(details.items())),
            protocol_version=PROTOCOL_VERSION,
        )

    def _sentence(self, text: str) -> str:
        # A path may hold bytes that are no text: an error that cannot be written would leave its request without end.
        return self._redactor.scrub(text)[:_LONGEST_SENTENCE].encode("utf-8", "replace").decode()

    def _warning(self, text: str | None) -> str | UnsetType:
        return self._sentence(text) if text else UNSET

    def _outcome(self, failure: Failure | None) -> _Outcome:
        if failure is None:
            return {"is_error": False, "error": ErrorCode.SUCCESS}
        outcome: _Outcome = {"is_error": True, "error": failure.code, "message": self._sentence(failure.message)}
        if failure.reason is not None:
            outcome["reason"] = str(failure.reason)
        if failure.retry_after_ms is not None:
            outcome["retry_after_ms"] = failure.retry_after_ms
        return outcome
