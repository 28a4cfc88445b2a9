"""DeepSeek: thinks unless told not to, and says with the same 400 what others say with 401, 404 or 403."""

import json
from collections.abc import Mapping
from typing import ClassVar, Final

from fakes.upstream import openai_api
from fakes.upstream.framing import Event
from fakes.upstream.openai_api import Json, Reply, html
from fakes.upstream.openai_style import OpenAIStyle, Parts
from fakes.upstream.scenario import Scenario

GOOD_KEY: Final = "sk-good0123456789abcdefghijklmnop"
_LONGEST_OUTPUT: Final = 65536
_NO_ROLE: Final = (
    "Failed to deserialize the JSON body into the target type: messages[%d].role: unknown variant `%s`, expected one"
    " of `system`, `user`, `assistant`, `tool` at line 1 column 62"
)


def error(status: int, message: str, kind: str = "invalid_request_error") -> Reply:
    """An error in the service's own form, whose code is always the same."""
    inner = {"message": message, "type": kind, "param": None, "code": "invalid_request_error"}
    return Reply(status, json.dumps({"error": inner}).encode())


def plain(status: int, text: str) -> Reply:
    """An error as plain text."""
    return Reply(status, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})


class DeepSeek(OpenAIStyle):
    """The service, with and without `/v1`."""

    key = GOOD_KEY
    prefixes = ("/v1", "")
    roles = ("system", "user", "assistant", "tool")
    most_stops = 16
    models: ClassVar[Mapping[str, Json]] = {
        name: {"id": name, "object": "model", "owned_by": "deepseek"} for name in ("deepseek-flash", "deepseek-v4-pro")
    }
    fields = frozenset(
        "temperature top_p stop max_tokens presence_penalty frequency_penalty thinking reasoning_effort"
        " stream_options response_format tools tool_choice logprobs top_logprobs".split()
    )
    errors: ClassVar[Mapping[str, Reply]] = {
        "format": error(400, "Invalid request: the body is odd"),
        "context": error(400, "This model's maximum context length is 131072 tokens. However, you requested more."),
        "risk": error(400, "Content Exists Risk"),
        "payment": error(402, "Insufficient Balance", "unknown_error"),
        "unprocessable": plain(422, _NO_ROLE % (0, "function")),
        "rate": error(429, "Rate limit reached", "rate_limit_error"),
        "internal": error(500, "Server Error", "server_error"),
        "overloaded": error(503, "Service is too busy", "service_unavailable_error"),
        "gateway-timeout": html(504, "504 Gateway Time-out"),
        "edge-text": plain(403, "error code: 1010"),
    }

    def wrong_key(self, key: str) -> Reply:
        """How it refuses a key: its end is told."""
        return error(401, f"Authentication Fails, Your api key: ****{key[-4:]} is invalid", "authentication_error")

    def unknown_model(self, model: str) -> Reply:
        """How it refuses a model."""
        return error(400, "Model Not Exist")

    def unknown_field(self, name: str) -> Reply:
        """The service looks over them; a test must not."""
        return error(400, f"unknown field {name}")

    def bad_value(self, name: str, value: object) -> Reply:
        """How it refuses a value."""
        limit = {"temperature": "[0, 2.0]", "max_tokens": f"[1, {_LONGEST_OUTPUT}]", "stop": "16 items"}[name]
        return error(400, f"Invalid {name} value, the valid range of {name} is {limit}")

    def bad_message(self, number: int, message: Json) -> Reply | None:
        """How it refuses a message."""
        if message["role"] not in self.roles:
            return plain(422, _NO_ROLE % (number, message["role"]))
        return None

    def refusal_of(self, body: Json, scenario: Scenario) -> Reply | None:
        """Too long an output is no model's."""
        length = body.get("max_tokens", 1)
        return None if 1 <= length <= _LONGEST_OUTPUT else self.bad_value("max_tokens", length)

    def parts(self, body: Json, scenario: Scenario) -> Parts:
        """OpenAI's, after what the model thinks."""
        opening, texts, ending = openai_api.stream(body, scenario)
        if body.get("thinking", {}).get("type", "enabled") == "enabled":
            shell = json.loads(opening[0].data)
            for thought in ("Hm", ", so"):
                delta = {"content": None, "reasoning_content": thought}
                choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
                opening.append(Event(json.dumps({**shell, "choices": [choice]}).encode()))
        return opening, texts, ending
