"""What a failed answer of an HTTP service means: one table for all providers. Pure."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from waifu_worker.framing import DECODE_ERRORS
from waifu_worker.provider import ProviderError
from waifu_worker.upstream import Upstream
from waifu_worker.wire import Code

_LONGEST_WAIT_S: Final = 24 * 3600
_LONGEST_PLAIN: Final = 2000


class ErrorDetails(msgspec.Struct, frozen=True):
    """What an error body says, whatever its shape; an absent part is ""."""

    message: str = ""
    code: str = ""
    type: str = ""
    param: str = ""
    moderated: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """A failed answer. `status` None: an error inside a stream that began well. `details` None: the body is no JSON.

    `plain`: such a body where it is plain text.
    """

    status: int | None
    details: ErrorDetails | None
    retry_after_ms: int | None = None
    model: str | None = None
    location: str | None = None
    plain: str = ""

    @property
    def said(self) -> ErrorDetails:
        """The details; where there are none, the plain text as their message."""
        return self.details or ErrorDetails(message=self.plain)


def read_details(body: bytes) -> ErrorDetails | None:
    """The details in an error body; None where it is no JSON (HTML of a proxy, plain text, nothing)."""
    try:
        return details_of(msgspec.json.decode(body))
    except DECODE_ERRORS:
        return None


def read_plain(body: bytes) -> str:
    """The beginning of a body that is plain text; "" for a web page."""
    text = body[:_LONGEST_PLAIN].decode("utf-8", "replace").strip()
    return "" if text.startswith("<") else text


def details_of(value: object) -> ErrorDetails:
    """The details in a decoded error: `{"error": {...}}`, `{"error": ".."}`, `{"message": ..}`, `{"detail": ..}`."""
    if isinstance(value, list) and value:
        value = value[0]
    inner = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(inner, str):
        return ErrorDetails(message=inner)
    if not isinstance(inner, dict):
        return ErrorDetails()
    message, param = _text(inner.get("message")), _text(inner.get("param"))
    if not message and "detail" in inner:
        message, param = _detail(inner["detail"])
    metadata = inner.get("metadata")
    return ErrorDetails(
        message=message,
        code=_text(inner.get("code") or inner.get("statusCode")),
        type=_text(inner.get("type")),
        param=param,
        moderated=isinstance(metadata, dict) and "reasons" in metadata,
    )


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _detail(detail: object) -> tuple[str, str]:
    """Message and parameter of FastAPI's form of an error."""
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        where = detail[0].get("loc")
        return _text(detail[0].get("msg")), _text(where[-1]) if isinstance(where, list) and where else ""
    return _text(detail), ""


def retry_after_ms(headers: Mapping[str, str], now: float) -> int | None:
    """When the service wants to be asked again. `now`: seconds since the epoch, for the form that is a date."""
    seconds = _number(headers.get("retry-after-ms", ""))
    if seconds is not None:
        seconds /= 1000
    else:
        after = headers.get("retry-after", "")
        seconds = _number(after)
        if seconds is None and after:
            try:
                seconds = parsedate_to_datetime(after).timestamp() - now
            except (ValueError, OverflowError):
                return None
    return None if seconds is None else round(min(max(seconds, 0.0), _LONGEST_WAIT_S) * 1000)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# The table. Order matters: what the service says goes before the status it says it with.

_QUOTA_CODES: Final = frozenset({"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"})
_KEY_CODES: Final = frozenset(
    {"invalid_api_key", "authentication_error", "account_deactivated", "organization_restricted"}
)
_LENGTH_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_POLICY_CODES: Final = frozenset({"invalid_prompt", "content_policy_violation", "content_filter"})
_POLICY: Final = re.compile(r"content exists risk", re.IGNORECASE)
_RATE_CODES: Final = frozenset({"rate_limit_exceeded", "rate_limit_error", "slow_down", "too_many_requests"})
_DOWN_CODES: Final = frozenset({"server_error", "server_is_overloaded", "overloaded_error", "internal_server_error"})
_NO_MODEL: Final = re.compile(
    r"model not exist|not allowed for current user tier|not available via openai-compatible api"
    r"|\bmodel\b.*(?:not found|does not exist|not supported in the v1/chat|does not support chat)"
    r"|is not a valid model|\binvalid model\b|no endpoints found for",
    re.IGNORECASE | re.DOTALL,
)
_TOO_LONG: Final = re.compile(r"context (?:length|size|window)|prompt is too long|too many tokens", re.IGNORECASE)
_BAD_KEY: Final = re.compile(
    r"\b(?:incorrect|invalid) api[ _-]?key|api key (?:is )?(?:not valid|invalid)", re.IGNORECASE
)
_LOCKED: Final = re.compile(r"concurrent generation is locked", re.IGNORECASE)
_STATUS: Final = re.compile(r"[45]\d\d")
_BAD_REQUEST: Final = (400, 422)
_MAY_NAME_MODEL: Final = (400, 403, 404, 410, 422, None)


def _says(refusal: Refusal, codes: Collection[str]) -> bool:
    return refusal.said.code in codes or refusal.said.type in codes


def _no_such_model(refusal: Refusal) -> bool:
    if refusal.status not in _MAY_NAME_MODEL:
        return False
    said = refusal.said
    named = refusal.status in (400, 404) and (said.param == "model" or _NO_MODEL.search(said.message) is not None)
    return named or said.code == "model_not_found" or (refusal.status is not None and said.code.startswith("model_"))


def _too_long(refusal: Refusal) -> bool:
    longer = refusal.status in _BAD_REQUEST and _TOO_LONG.search(refusal.said.message) is not None
    return refusal.status == 413 or longer or _says(refusal, _LENGTH_CODES)


def _bad_messages(refusal: Refusal) -> bool:
    said = refusal.said
    if refusal.status == 422 and re.search(r"\b(?:messages|role)\b", said.message):
        return True
    return refusal.status in _BAD_REQUEST and said.param.startswith("messages")


def _bad_key(refusal: Refusal) -> bool:
    """Some services refuse a key with 400, and Cohere with the 498 that others use for something else."""
    said = refusal.said.message
    told = refusal.status == 400 and _BAD_KEY.search(said) is not None
    return told or refusal.status == 401 or (refusal.status == 498 and "token" in said) or _says(refusal, _KEY_CODES)


def _wrong_address(refusal: Refusal) -> bool:
    return refusal.status in (404, 405)


_Rule = tuple[Callable[[Refusal], bool], Code, str | None, str]

_RULES: Final[tuple[_Rule, ...]] = (
    (
        lambda r: r.status == 402 or _says(r, _QUOTA_CODES),
        Code.AUTHORIZATION,
        "quota",
        "{title} says that the account can't pay{said}. Look at its balance and its limits.",
    ),
    (
        lambda r: r.said.moderated or _says(r, _POLICY_CODES) or _POLICY.search(r.said.message) is not None,
        Code.INVALID_PROMPT,
        "refused",
        "{title} refuses the messages by its policy{said}. Change them.",
    ),
    (
        _no_such_model,
        Code.INVALID_MODEL,
        None,
        "{title} can't use the model {model}{said}. Choose another; get_models lists them.",
    ),
    (
        _too_long,
        Code.INVALID_PROMPT,
        None,
        "the messages are too long for the model {model}{said}. Send fewer or shorter ones.",
    ),
    (_bad_messages, Code.INVALID_PROMPT, None, "{title} refuses the messages{said}. Correct them."),
    (
        _bad_key,
        Code.AUTHORIZATION,
        None,
        "{title} at {host} refuses the API key{said}. Check the key.",
    ),
    (
        lambda r: r.status == 403 and r.details is not None,
        Code.AUTHORIZATION,
        None,
        "{title} at {host} does not allow this to the API key{said}. Check what the key and the account may do.",
    ),
    (
        lambda r: r.status == 403,
        Code.UNEXPECTED,
        "provider_down",
        "the request was blocked at the edge of {host}, before {title} saw it (HTTP 403). Try another network.",
    ),
    (
        lambda r: r.status in (408, 504, 524),
        Code.TIMEOUT,
        "provider_timeout",
        "{title} took too long itself{said}. Try again.",
    ),
    (
        _wrong_address,
        Code.UNEXPECTED,
        None,
        "there is no such service at {host}{said}. Check base_url.",
    ),
    (
        lambda r: r.status is not None and 200 <= r.status < 300,
        Code.UNEXPECTED,
        None,
        "{host} answers with a web page, not as {title} does{said}. Check base_url.",
    ),
    (
        lambda r: r.status is not None and 300 <= r.status < 400,
        Code.UNEXPECTED,
        None,
        "{host} sends its callers elsewhere{said}, and redirects are not followed. Check base_url{location}.",
    ),
    (
        lambda r: r.status in (409, 429, 498) or _says(r, _RATE_CODES) or _LOCKED.search(r.said.message) is not None,
        Code.UNEXPECTED,
        "rate_limited",
        "{title} gets too many requests{said}. Wait a little, then try again.",
    ),
    (
        lambda r: (r.status is not None and (r.status == 499 or r.status >= 500)) or _says(r, _DOWN_CODES),
        Code.UNEXPECTED,
        "provider_down",
        "{title} at {host} has trouble of its own{said}. Try again later.",
    ),
    (
        lambda r: r.status is None,
        Code.UNEXPECTED,
        None,
        "{title} broke the answer off with an error{said}. Try again.",
    ),
)
_OTHERWISE: Final[_Rule] = (lambda _: True, Code.UNEXPECTED, None, "{title} refuses the request{said}.")


def failure(upstream: Upstream, refusal: Refusal) -> ProviderError:
    """The error to raise for a failed answer."""
    if refusal.status is None and _STATUS.fullmatch(refusal.said.code):
        # Gateways put the status into the event when the headers have long said 200.
        refusal = Refusal(int(refusal.said.code), refusal.details, refusal.retry_after_ms, refusal.model)
    _, code, reason, text = next((rule for rule in _RULES if rule[0](refusal)), _OTHERWISE)
    message = text.format(
        title=upstream.title,
        host=upstream.host,
        model=upstream.quote(refusal.model or "asked for"),
        said=_said(upstream, refusal),
        location=f", perhaps {upstream.quote(refusal.location)}" if refusal.location else "",
    )
    return ProviderError(
        code,
        message,
        reason=reason,
        retry_after_ms=refusal.retry_after_ms,
        http_status=refusal.status,
        provider_code=upstream.quote(refusal.said.code or refusal.said.type) or None,
    )


def _said(upstream: Upstream, refusal: Refusal) -> str:
    status = f" (HTTP {refusal.status})" if refusal.status is not None else ""
    quoted = upstream.quote(refusal.said.message)
    return f"{status}: {quoted.rstrip('.')}" if quoted else status


# Refused parameters.

_VALUE_CODES: Final = re.compile(r"invalid_value|_(?:max|min)_(?:value|length)$")
_VALUE_WORDS: Final = re.compile(
    r"valid range|out of (?:its )?range|too (?:large|small|big|long|many)"
    r"|(?:must|should) be (?:less|greater|between|at most|at least|in the range)",
    re.IGNORECASE,
)
_NAMED: Final = re.compile(r"\b(?:parameters?|arguments?|fields?|supported on this model):? (\w+)", re.IGNORECASE)
_COMMON_WORDS: Final = frozenset({"stop", "seed", "think", "thinking"})


def refused_field(refusal: Refusal, sent: Collection[str]) -> str | None:
    """The field of those `sent` that a 400 or 422 complains about; None where it complains about something else."""
    if refusal.status not in _BAD_REQUEST or _no_such_model(refusal) or _too_long(refusal):
        return None
    said = refusal.said
    top = re.split(r"[.\[]", said.param, maxsplit=1)[0]
    if top:
        return top if top in sent else None
    quoted = [word for word in re.findall(r"[`'\"]([\w.]+)[`'\"]", said.message) if word in sent]
    named = [word for word in _NAMED.findall(said.message) if word in sent]
    plain = [word for word in re.findall(r"\w+", said.message) if word in sent and word not in _COMMON_WORDS]
    return next(iter(quoted or named or plain), None)


def refuses_only_value(refusal: Refusal) -> bool:
    """Whether another value of the field might do, so that the next request should send it again."""
    said = refusal.said
    return _VALUE_CODES.search(said.code) is not None or _VALUE_WORDS.search(said.message) is not None
