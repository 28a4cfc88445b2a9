"""What NovelAI's own sentences mean, where the table for all services can't know. Pure."""

import re
from typing import Final

from waifu_worker.provider import ProviderError
from waifu_worker.wire import Code

_LOCKED: Final = re.compile(r"concurrent generation is locked", re.IGNORECASE)
_NO_MODEL: Final = re.compile(
    r"not allowed for current user tier|not available via openai-compatible api"
    r"|model must be one of|\bmodel\b.*(?:not found|not supported|unknown|invalid)",
    re.IGNORECASE,
)
_TOO_LONG: Final = re.compile(
    r"\b(?:context|input|prompt)\b.*(?:too (?:long|large|big)|length|exceed|shorter|at most|maximum|limit)"
    r"|(?:exceed|longer than)\w* .*\b(?:context|input|prompt)\b|too many tokens",
    re.IGNORECASE,
)
_NO_SUBSCRIPTION: Final = re.compile(r"active subscription is required|incorrect subscription", re.IGNORECASE)
# An error that comes with status 200 has none of its own.
_BAD_REQUEST: Final = (400, 422, None)


def is_locked(error: ProviderError) -> bool:
    """Whether another generation of this account still runs, or has only just been closed."""
    return _LOCKED.search(error.message) is not None


def sharpened(error: ProviderError, model: str) -> ProviderError:
    """The error itself, or a better one where its sentence says more than its status."""
    if error.code is not Code.UNEXPECTED or error.reason == "truncated":
        return error
    said = error.message
    if error.http_status in (*_BAD_REQUEST, 409) and _NO_SUBSCRIPTION.search(said):
        return _like(error, Code.AUTHORIZATION, "quota", f"NovelAI asks for a subscription: {said}")
    if error.http_status not in _BAD_REQUEST or error.reason is not None:
        return error
    if _NO_MODEL.search(said):
        hint = "Choose another; get_models lists them."
        return _like(error, Code.INVALID_MODEL, None, f"NovelAI can't use the model {model}: {said} {hint}")
    if _TOO_LONG.search(said):
        return _like(error, Code.INVALID_PROMPT, None, f"the messages are too long for {model}: {said}")
    return error


def _like(error: ProviderError, code: Code, reason: str | None, message: str) -> ProviderError:
    return ProviderError(code, message, reason=reason, http_status=error.http_status, provider_code=error.provider_code)
