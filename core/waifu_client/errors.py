"""What a client raises: one tree, every error with the protocol's code. Pure."""

from typing import Final

from msgspec import UNSET

from waifu_client.protocol import ErrorCode, Outcome


class LLMError(Exception):
    """Root of all that this package raises on purpose.

    `code`: the protocol's error code; `message`: a sentence that says what to do; `reason`: a finer word than the
    code, where there is one (there may be new ones any time); `retry_after_ms`: when to try again, where known.
    """

    code: ErrorCode = ErrorCode.UNEXPECTED

    def __init__(self, message: str, *, reason: str | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.retry_after_ms = retry_after_ms


class UnexpectedError(LLMError):
    """Something went wrong that no other code says; `reason` often tells more."""


class AuthorizationError(LLMError):
    """No key, a key that the provider refuses, an account that cannot pay, or a token that the module refuses."""

    code = ErrorCode.AUTHORIZATION


class InvalidPrompt(LLMError):
    """The messages or the parameters are not acceptable."""

    code = ErrorCode.INVALID_PROMPT


class InvalidProvider(LLMError):
    """No such provider, or it is not loaded."""

    code = ErrorCode.INVALID_PROVIDER


class InvalidModel(LLMError):
    """The provider does not know the model, or none was given and none is known."""

    code = ErrorCode.INVALID_MODEL


class TimedOut(LLMError):
    """The request's own time ran out, or the provider's."""

    code = ErrorCode.TIMEOUT


class Interrupted(LLMError):
    """The request was interrupted: by an `interrupt`, by an unload, or because the module stops."""

    code = ErrorCode.INTERRUPT


class ConnectionLost(LLMError):
    """The connection to the module ended, or the module does not answer on it any more. Connect again."""


class ModuleNotRunning(LLMError):
    """No module answers at the address."""


_CLASSES: Final[dict[ErrorCode, type[LLMError]]] = {
    kind.code: kind
    for kind in (
        UnexpectedError,
        AuthorizationError,
        InvalidPrompt,
        InvalidProvider,
        InvalidModel,
        TimedOut,
        Interrupted,
    )
}


def error_of(outcome: Outcome) -> LLMError:
    """A terminal message with `is_error` as the exception of its code."""
    kind = _CLASSES.get(outcome.error, UnexpectedError)
    return kind(
        outcome.message or f"the module answered {outcome.error}",
        reason=outcome.reason or None,
        retry_after_ms=None if outcome.retry_after_ms is UNSET else outcome.retry_after_ms,
    )
