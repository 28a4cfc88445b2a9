"""OpenAI's Chat Completions as the service itself behaves: its shapes, its strictness, its error bodies. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fakes.upstream.framing import Event
from fakes.upstream.scenario import SAYINGS, Scenario

Json = dict[str, Any]

GOOD_KEY: Final = "sk-good-0123456789abcdefghijklmnop"
# This key may chat, but not read the list of models.
RESTRICTED_KEY: Final = "sk-restricted-0123456789abcdefgh"

MODELS: Final[dict[str, str]] = {
    "gpt-4o-mini": "system",
    "gpt-4o": "system",
    "gpt-5.5": "system",
    "o3": "system",
    "text-embedding-3-small": "openai-internal",
    "ft:gpt-4o-mini:acme::x": "acme",
}
_FIELDS: Final = frozenset(
    "model messages stream stream_options temperature top_p n stop max_tokens max_completion_tokens presence_penalty"
    " frequency_penalty logit_bias logprobs top_logprobs seed user tools tool_choice response_format"
    " reasoning_effort store metadata modalities service_tier parallel_tool_calls prediction verbosity".split()
)
_ROLES: Final = ("system", "assistant", "user", "function", "tool", "developer")
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_HTML: Final = b"<html><head><title>%b</title></head><body><center><h1>%b</h1></center><hr>cloudflare</body></html>"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response that is no success."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def error(status: int, message: str, *, param: str | None = None, code: str | None = None, kind: str = "") -> Reply:
    """An error in the service's own form."""
    kind = kind or ("invalid_request_error" if status < 500 else "server_error")
    return Reply(
        status, json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()
    )


def html(status: int, title: str) -> Reply:
    """An error page of what stands before the service."""
    return Reply(status, _HTML % (title.encode(), title.encode()), {"Content-Type": "text/html; charset=UTF-8"})


def with_headers(reply: Reply, **headers: str) -> Reply:
    """The same with more headers; `_` stands for `-`."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(reply.status, reply.body, {**reply.headers, **more})


_RATE: Final = error(429, "Rate limit reached for gpt-4o-mini", kind="requests", code="rate_limit_exceeded")
_SLOW: Final = error(429, "Please slow down", code="slow_down")
ERRORS: Final[dict[str, Reply]] = {
    "country": error(403, "Country not supported", code="unsupported_country_region_territory"),
    "edge": html(403, "Attention Required! | Cloudflare"),
    "payment": error(402, "Please add credits", kind="billing_error"),
    "not-chat": error(404, "This is not a chat model and thus not supported in the v1/chat/completions endpoint.",
                      param="model"),
    "no-access": error(403, "Project `proj_x` does not have access to model `gpt-4o`", code="model_not_found"),
    "context": error(400, "This model's maximum context length is 128000 tokens.", param="messages",
                     code="context_length_exceeded"),
    "policy": error(400, "Invalid prompt: flagged as violating our usage policy.", code="invalid_prompt"),
    "moderation": Reply(403, b'{"error":{"code":403,"message":"Flagged","metadata":{"reasons":["violence"]}}}'),
    "too-large": error(413, "Request too large"),
    "bad-messages": error(400, "Invalid type for 'messages[0].content'", param="messages[0].content",
                          code="invalid_type"),
    "unprocessable": Reply(422, b'{"detail":[{"loc":["body","messages",0,"role"],"msg":"bad role in messages"}]}'),
    "rate": with_headers(_RATE, retry_after="7"),
    "rate-ms": with_headers(_RATE, retry_after_ms="1500", retry_after="2"),
    "rate-date": with_headers(_RATE, retry_after="Fri, 01 Jan 2100 00:00:00 GMT"),
    "rate-bare": _RATE,
    "quota": error(429, "You exceeded your current quota", kind="insufficient_quota", code="insufficient_quota"),
    "credit": error(429, "Out of credit", kind="insufficient_quota", code="credit_balance_exhausted"),
    "slow-down": _SLOW,
    "conflict": error(409, "Conflict"),
    "capacity": error(498, "Flex capacity exceeded"),
    "internal": error(500, "The server had an error while processing your request"),
    "bad-gateway": html(502, "502 Bad Gateway"),
    "overloaded": error(503, "The server is overloaded", code="server_is_overloaded"),
    "overloaded-529": error(529, "Overloaded", kind="overloaded_error"),
    "request-timeout": error(408, "Request timed out"),
    "gateway-timeout": html(504, "504 Gateway Time-out"),
    "origin-timeout": html(524, "A timeout occurred"),
    "odd": error(418, "I'm a teapot"),
    "max-too-large": error(400, "max_tokens is too large.", param="max_completion_tokens", code="invalid_value"),
    "refuse-length": error(400, "Extra inputs are not permitted: `max_completion_tokens`"),
    "unknown-extra": Reply(422, b'{"detail":[{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra inputs"}]}'),
}  # fmt: skip
# These errors come only while one of these fields is in the request.
COMPLAINTS: Final[Mapping[str, tuple[str, ...]]] = {
    "max-too-large": ("max_completion_tokens", "max_tokens"),
    "refuse-length": ("max_completion_tokens",),
    "unknown-extra": ("seed",),
}
STREAM_ERROR: Final[Json] = {
    "error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}
}


def check_key(headers: Mapping[str, str]) -> Reply | None:
    """The refusal of a wrong or missing key."""
    given = headers.get("authorization", "")
    if not given.startswith("Bearer "):
        return error(401, "You didn't provide an API key. You need to provide your API key in an Authorization header.")
    key = given.removeprefix("Bearer ")
    if key in (GOOD_KEY, RESTRICTED_KEY):
        return None
    masked = f"{key[:8]}{'*' * max(len(key) - 12, 4)}{key[-4:]}"
    message = f"Incorrect API key provided: {masked}. You can find your API key at https://platform.openai.com."
    return error(401, message, code="invalid_api_key")


def model_list(headers: Mapping[str, str]) -> Reply | Json:
    """The list of models, of all kinds."""
    if headers["authorization"].endswith(RESTRICTED_KEY):
        return error(403, "You have insufficient permissions for this operation. Missing scopes: api.model.read.")
    data = [{"id": id_, "object": "model", "created": 1700000000, "owned_by": owner} for id_, owner in MODELS.items()]
    return {"object": "list", "data": data}


def check_request(body: object, scenario: Scenario) -> Reply | None:
    """The refusal of a request that the service would refuse."""
    assert isinstance(body, dict)
    unknown = sorted(set(body) - _FIELDS)
    if unknown:
        return error(400, f"Unrecognized request argument supplied: {unknown[0]}", code="unknown_parameter")
    if scenario.model not in MODELS:
        message = f"The model `{scenario.model}` does not exist or you do not have access to it."
        return error(404, message, code="model_not_found")
    if scenario.error in ERRORS and any(name in body for name in COMPLAINTS.get(scenario.error, body)):
        return ERRORS[scenario.error]
    return _check_limits(body, scenario.model) or _check_stop(body, scenario.model) or _check_messages(body)


def _check_limits(body: Json, model: str) -> Reply | None:
    thinks = model.startswith(("o1", "o3", "o4", "gpt-5"))
    if thinks and "max_tokens" in body:
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return error(400, message, param="max_tokens", code="unsupported_parameter")
    if "max_tokens" in body and "max_completion_tokens" in body:
        return error(400, "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
    temperature = body.get("temperature", 1)
    if thinks and temperature != 1:
        message = (
            f"Unsupported value: 'temperature' does not support {temperature} with this model."
            " Only the default (1) value is supported."
        )
        return error(400, message, param="temperature", code="unsupported_value")
    if not 0 <= temperature <= 2:
        side = "above_max" if temperature > 2 else "below_min"
        return error(400, f"Invalid 'temperature': {temperature}", param="temperature", code=f"decimal_{side}_value")
    if body.get("top_p", 1) > 1:
        return error(400, f"Invalid 'top_p': {body['top_p']}", param="top_p", code="decimal_above_max_value")
    return None


def _check_stop(body: Json, model: str) -> Reply | None:
    stop = body.get("stop", [])
    if model == "o3" and "stop" in body:
        message = "Unsupported parameter: 'stop' is not supported with this model."
        return error(400, message, param="stop", code="unsupported_parameter")
    if len(stop) > 4:
        message = (
            f"Invalid 'stop': array too long. Expected an array with maximum length 4, but got {len(stop)} instead."
        )
        return error(400, message, param="stop", code="array_above_max_length")
    if not all(stop) or not all(isinstance(text, str) for text in stop):
        return error(400, "'' is too short - 'stop'")
    return None


def _check_messages(body: Json) -> Reply | None:
    messages = body.get("messages")
    if not messages:
        return error(
            400, "Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter"
        )
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if message.get("role") not in _ROLES:
            text = f"Invalid value: '{message.get('role')}'."
            return error(400, text, param=f"{where}.role", code="invalid_value")
        if message["role"] == "tool" and "tool_call_id" not in message:
            return error(400, f"Missing parameter 'tool_call_id': {where}", param=where)
        if not isinstance(message.get("content"), str):
            return error(400, f"Invalid type for '{where}.content'", param=f"{where}.content", code="invalid_type")
        if "name" in message and not _NAME.fullmatch(message["name"]):
            text = f"Invalid '{where}.name': string does not match pattern."
            return error(400, text, param=f"{where}.name", code="invalid_value")
    return None


def texts(body: Json, scenario: Scenario) -> tuple[str, ...]:
    """The pieces of the answer."""
    if scenario.say != "echo":
        return SAYINGS[scenario.say]
    said = body["messages"][-1]["content"]
    return tuple(said[i : i + 4] for i in range(0, len(said), 4))


def stream(body: Json, scenario: Scenario) -> tuple[list[Event], list[Event], list[Event]]:
    """The events of an answer: what opens it, its texts, what ends it."""
    ascii_only = scenario.frame in ("escaped", "halved")
    said = texts(body, scenario)
    if scenario.frame == "halved":
        said = tuple(unit for text in said for unit in _utf16_units(text))
    opening = [_event({"role": "assistant", "content": "", "refusal": None}, ascii_only)]
    if scenario.kind == "thinking":
        opening += [_event({"content": None, "reasoning_content": text}, ascii_only) for text in ("Hm", ", so")]
    key = "refusal" if scenario.kind == "refusal" else "content"
    middle = [_event({key: text}, ascii_only) for text in said]
    ending = [] if scenario.end == "only-done" else [_event({}, ascii_only, scenario.reason)]
    if scenario.end == "reason-first":
        ending.append(middle.pop())
    if scenario.end != "only-reason" and (body.get("stream_options") or {}).get("include_usage"):
        ending.append(Event(_dump({**_SHELL, "choices": [], "usage": _usage(len(middle))}, ascii_only)))
    if scenario.end not in ("only-reason", "held-open"):
        ending.append(Event(b"[DONE]"))
    return opening, middle, ending


def _utf16_units(text: str) -> list[str]:
    raw = text.encode("utf-16-le")
    return [raw[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, len(raw), 2)]


def completion(body: Json, scenario: Scenario) -> Json:
    """The answer in one piece."""
    said = texts(body, scenario)
    message = {"role": "assistant", "content": "".join(said), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": scenario.reason}
    return {**_SHELL, "object": "chat.completion", "choices": [choice], "usage": _usage(len(said))}


_SHELL: Final[Json] = {
    "id": "chatcmpl-fake",
    "object": "chat.completion.chunk",
    "created": 1700000000,
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "system_fingerprint": "fp_fake",
}


def _event(delta: Json, ascii_only: bool, reason: str | None = None) -> Event:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return Event(_dump({**_SHELL, "choices": [choice], "usage": None}, ascii_only))


def _dump(value: Json, ascii_only: bool) -> bytes:
    return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":")).encode()


def _usage(completion_tokens: int) -> Json:
    return {"prompt_tokens": 9, "completion_tokens": completion_tokens, "total_tokens": 9 + completion_tokens}
