"""Groq: names and several fields refused, thinking in the text, `x_groq` at both ends of a stream."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from fakes.upstream import openai_api
from fakes.upstream.framing import Event
from fakes.upstream.openai_api import Json, Reply, html, with_headers
from fakes.upstream.openai_style import OpenAIStyle, Parts
from fakes.upstream.scenario import Scenario
from fakes.upstream.streaming import OPENAI_EVENTS

GOOD_KEY: Final = "gsk_good0123456789abcdefghijklmnopqrstuv"
THINKER: Final = "qwen/qwen3-32b"
APART: Final = "openai/gpt-oss-120b"
RETIRED: Final = "gemma2-9b-it"
NO_CHAT: Final = "whisper-large-v3"
_USAGE: Final = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16, "total_time": 0.01}
_LARGE: Final = (
    "Request too large for model `llama-3.3-70b-versatile` in organization `org_x` service tier `on_demand` on tokens"
    " per minute (TPM): Limit 12000, Requested 40000, please reduce your message size and try again."
)


def error(status: int, message: str, *, kind: str = "invalid_request_error", **more: str) -> Reply:
    """An error in the service's own form: code and param only where there is one."""
    return Reply(status, json.dumps({"error": {"message": message, "type": kind, **more}}).encode())


def _entry(model: str, *, active: bool = True) -> Json:
    entry = {"id": model, "object": "model", "created": 1700000000, "owned_by": "Acme", "context_window": 131072}
    return {**entry, "active": active, "public_apps": None, "max_completion_tokens": 32768}


class Groq(OpenAIStyle):
    """`/openai/v1` is the service."""

    key = GOOD_KEY
    prefixes = ("/openai/v1",)
    most_stops = 4
    models: ClassVar[Mapping[str, Json]] = {
        "llama-3.3-70b-versatile": _entry("llama-3.3-70b-versatile"),
        THINKER: _entry(THINKER),
        APART: _entry(APART),
        NO_CHAT: _entry(NO_CHAT),
        RETIRED: _entry(RETIRED, active=False),
    }
    fields = frozenset(
        "temperature top_p stop max_tokens max_completion_tokens seed reasoning_format reasoning_effort"
        " include_reasoning service_tier user response_format tools tool_choice n".split()
    )
    errors: ClassVar[Mapping[str, Reply]] = {
        "rate": with_headers(
            error(429, "Rate limit reached for model", kind="tokens", code="rate_limit_exceeded"), retry_after="7"
        ),
        "too-large": error(413, _LARGE, kind="tokens", code="rate_limit_exceeded"),
        "context": error(400, "Please reduce the length of the messages or completion.", param="messages",
                         code="context_length_exceeded"),
        "unprocessable": error(422, "The model hallucinated its output"),
        "dependency": error(424, "A remote MCP server failed"),
        "restricted": error(400, "Organization has been restricted.", code="organization_restricted"),
        "terms": error(400, "The model `x` requires terms acceptance.", code="model_terms_required"),
        "denied": error(403, "Access denied. Please check your network settings.", kind="forbidden"),
        "edge": html(403, "Attention Required! | Cloudflare"),
        "capacity": error(498, "Flex tier capacity exceeded", code="capacity_exceeded"),
        "cancelled": error(499, "Request Cancelled"),
        "internal": error(500, "Internal Server Error", kind="internal_server_error"),
        "bad-gateway": html(502, "502 Bad Gateway"),
        "unavailable": error(503, "The model is over capacity", kind="internal_server_error"),
        "gateway-timeout": html(504, "504 Gateway Time-out"),
    }  # fmt: skip
    events = dataclasses.replace(
        OPENAI_EVENTS,
        last_words={
            **OPENAI_EVENTS.last_words,
            "x-groq-error": b'data: {"id":"x","choices":[],"x_groq":{"id":"req_1","error":"over capacity"}}\n\n',
        },
    )

    def wrong_key(self, key: str) -> Reply:
        """How it refuses a key."""
        return error(401, "Invalid API Key", code="invalid_api_key")

    def unknown_model(self, model: str) -> Reply:
        """How it refuses a model."""
        message = f"The model `{model}` does not exist or you do not have access to it."
        return error(404, message, code="model_not_found")

    def unknown_field(self, name: str) -> Reply:
        """How it refuses a field."""
        return error(400, f"property '{name}' is unsupported")

    def bad_value(self, name: str, value: object) -> Reply:
        """How it refuses a value."""
        return error(400, f"'{name}' : value {value} is out of its range")

    def bad_message(self, number: int, message: Json) -> Reply | None:
        """How it refuses a message."""
        where = f"'messages.{number}'"
        if message["role"] not in self.roles:
            return error(400, f"{where} : discriminator property 'role' has invalid value")
        odd = sorted(set(message) - {"role", "content"})
        if odd:
            must = f"the following must be satisfied[({where} : property '{odd[0]}' is unsupported)]"
            return error(400, f"{where} : for 'role:{message['role']}' {must}")
        return None

    def refusal_of(self, body: Json, scenario: Scenario) -> Reply | None:
        """The refusals of single models."""
        model = scenario.model
        if model == RETIRED:
            text = f"The model `{model}` has been decommissioned and is no longer supported."
            return error(400, text, code="model_decommissioned")
        if model == NO_CHAT:
            return error(400, f"The model `{model}` does not support chat completions")
        if "reasoning_format" in body and model != THINKER:
            text = "`reasoning_format` is not supported with this model"
            return error(400, text, param="reasoning_format")
        if body.get("n", 1) != 1:
            return error(400, "'n' : number must be at most 1", param="n")
        return None

    def parts(self, body: Json, scenario: Scenario) -> Parts:
        """OpenAI's, with the service's own additions."""
        opening, texts, ending = openai_api.stream(body, scenario)
        opening = [_edited(opening[0], x_groq={"id": "req_1"}), *opening[1:]]
        if scenario.model == THINKER and body.get("reasoning_format") != "hidden":
            thoughts = [_said(opening[0], content=text) for text in ("<th", "ink>\nHm, so", "\n</think>", "\n\n")]
            opening = [*opening, *thoughts]
        if scenario.model == APART:
            opening = [*opening, _said(opening[0], reasoning="Hm", channel="analysis")]
        if len(ending) > 1:
            ending = [_edited(ending[0], x_groq={"id": "req_1", "usage": _USAGE}), *ending[1:]]
        return opening, texts, ending


def _edited(event: Event, **more: object) -> Event:
    return Event(json.dumps({**json.loads(event.data), **more}).encode())


def _said(event: Event, **delta: str) -> Event:
    choices: Sequence[Json] = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]
    return _edited(event, choices=choices, x_groq=None)
