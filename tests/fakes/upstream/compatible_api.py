"""Servers that speak OpenAI's API each in a way of their own: local ones, and four services."""

import dataclasses
import json
from collections.abc import Mapping
from typing import ClassVar, Final

from fakes.upstream import openai_api
from fakes.upstream.framing import Event
from fakes.upstream.http1 import Exchange, Output
from fakes.upstream.openai_api import Json, Reply, html
from fakes.upstream.openai_style import OpenAIStyle, Parts
from fakes.upstream.scenario import Scenario
from fakes.upstream.streaming import OPENAI_EVENTS, answer

GOOD_KEY: Final = "local-good-0123456789abcdefghijkl"
_SAMPLERS: Final = "temperature top_p stop seed presence_penalty frequency_penalty"
_MODERATED: Final = {"code": 403, "message": "Flagged", "metadata": {"reasons": ["violence"], "flagged_input": "x"}}


def body(status: int, value: object) -> Reply:
    """Any JSON."""
    return Reply(status, json.dumps(value).encode())


def plain(status: int, text: str) -> Reply:
    """An error as plain text."""
    return Reply(status, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})


class Compatible(OpenAIStyle):
    """A local server behind a key; its errors are those of all the servers there are."""

    key = GOOD_KEY
    models: ClassVar[Mapping[str, Json]] = {
        "local": {"id": "local", "object": "model", "owned_by": "me", "max_model_len": 4096},
        "thinker": {"id": "thinker", "object": "model"},
    }
    fields = frozenset(f"{_SAMPLERS} stream_options max_tokens top_k min_p repeat_penalty".split())
    errors: ClassVar[Mapping[str, Reply]] = {
        "detail-model": body(404, {"detail": "Model 'm' not found"}),
        "detail-path": body(404, {"detail": "Not Found"}),
        "detail-list": body(422, {"detail": [{"loc": ["body", "messages"], "msg": "Field required"}]}),
        "plain-path": plain(404, "404 page not found"),
        "plain-internal": plain(500, "Internal Server Error"),
        "plain-unprocessable": plain(422, "messages[0].role: unknown variant `wizard`"),
        "string-model": body(404, {"code": "not-found", "error": "The model m does not exist or is not yours"}),
        "vllm-model": body(404, {"object": "error", "message": "The model `m` does not exist.", "type": "NotFoundError",
                                 "param": None, "code": 404}),
        "ollama-model": body(404, {"error": {"message": "model \"m\" not found, try pulling it first"}}),
        "mistral-model": body(400, {"object": "error", "message": "Invalid model: m", "type": "invalid_model",
                                    "param": None, "code": "1500"}),
        "openrouter-model": body(400, {"error": {"message": "m is not a valid model ID", "code": 400}}),
        "openrouter-endpoint": body(404, {"error": {"message": "No endpoints found for m.", "code": 404}}),
        "openrouter-credits": body(402, {"error": {"message": "Insufficient credits", "code": 402}}),
        "openrouter-moderation": body(403, {"error": _MODERATED}),
        "openrouter-timeout": body(408, {"error": {"message": "Your request timed out", "code": 408}}),
        "openrouter-down": body(502, {"error": {"message": "Provider returned error", "code": 502}}),
        "llama-loading": body(503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}),
        "llama-context": body(400, {"error": {"message": "the request exceeds the available context size", "code": 400,
                                              "type": "exceed_context_size_error", "n_ctx": 4096}}),
        "cohere-token": body(498, {"message": "invalid api token"}),
        "rate": body(429, {"message": "Requests rate limit exceeded"}),
        "tabby": body(401, {"detail": "Please provide an API key"}),
        "proxy": html(502, "502 Bad Gateway"),
    }  # fmt: skip
    events = dataclasses.replace(
        OPENAI_EVENTS,
        last_words={
            **OPENAI_EVENTS.last_words,
            "openrouter-error": b'data: {"id":"x","error":{"code":429,"message":"Rate limit exceeded"},"choices":['
            b'{"index":0,"delta":{"content":""},"finish_reason":"error"}]}\n\n',
            "finish-error": b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"error"}]}\n\n',
        },
    )

    def wrong_key(self, key: str) -> Reply:
        """How it refuses a key."""
        return body(401, {"error": "Unauthorized"})

    def unknown_model(self, model: str) -> Reply:
        """How it refuses a model."""
        return body(404, {"detail": f"Model '{model}' not found"})

    def unknown_field(self, name: str) -> Reply:
        """How it refuses a field."""
        return body(422, {"detail": f"Unexpected fields in the request: {{'{name}'}}"})

    def bad_value(self, name: str, value: object) -> Reply:
        """How it refuses a value."""
        detail = {"loc": ["body", name], "msg": "Input should be less than or equal to 2", "type": "less_than_equal"}
        return body(422, {"detail": [detail]})

    def bad_message(self, number: int, message: Json) -> Reply | None:
        """Templates know no names, and what they don't know they leave out: a test must not."""
        odd = set(message) - {"role", "content"}
        return body(422, {"detail": f"messages.{number}: {sorted(odd)}"}) if odd else None

    def unknown_path(self, exchange: Exchange) -> Reply:
        """How it says that there is nothing."""
        return plain(404, "404 page not found")

    def parts(self, body: Json, scenario: Scenario) -> Parts:
        """OpenAI's; raw text comes as text."""
        if "prompt" not in body:
            opening, texts, ending = openai_api.stream(body, scenario)
            if scenario.model == "thinker":
                texts = [*(_delta(text) for text in ("<think>Hm", "</think>")), *texts]
            return opening, texts, ending
        said = openai_api.texts({"messages": [{"content": body["prompt"]}]}, scenario)
        choices = [{"index": 0, "text": text, "logprobs": None, "finish_reason": None} for text in said]
        choices.append({"index": 0, "text": "", "finish_reason": scenario.reason})
        return [], [Event(json.dumps({"object": "text_completion", "choices": [it]}).encode()) for it in choices], []


class Open(Compatible):
    """A local server without keys: any is as good as none. It takes all that local servers take."""

    fields = Compatible.fields | frozenset(("max_completion_tokens", "repetition_penalty"))

    def check_key(self, headers: Mapping[str, str], path: str) -> Reply | None:
        """Never refuses one."""
        return None


class OpenRouter(Compatible):
    """Anybody may read its models, so the key is checked elsewhere."""

    prefixes = ("/api/v1",)
    fields = frozenset(f"{_SAMPLERS} stream_options max_tokens top_k min_p repetition_penalty".split())
    models: ClassVar[Mapping[str, Json]] = {"a/b": {"id": "a/b", "name": "B", "context_length": 131072}}

    def check_key(self, headers: Mapping[str, str], path: str) -> Reply | None:
        """The list is for everybody."""
        return None if path == "/models" else super().check_key(headers, path)

    def wrong_key(self, key: str) -> Reply:
        """How it refuses a key."""
        return body(401, {"error": {"message": "User not found.", "code": 401}})

    def bad_message(self, number: int, message: Json) -> Reply | None:
        """It takes names."""
        return None

    async def other(self, exchange: Exchange, out: Output, path: str) -> None:
        """Tells about the key."""
        if path == "/key":
            await answer(exchange, out, {"data": {"label": "sk-or-v1-...", "limit": None, "usage": 0}})
        else:
            await super().other(exchange, out, path)


class Mistral(Compatible):
    """Refuses what it doesn't know; content is a list of parts where the model thinks."""

    fields = frozenset("temperature top_p stop random_seed presence_penalty frequency_penalty max_tokens".split())
    models: ClassVar[Mapping[str, Json]] = {
        "magistral": {"id": "magistral", "object": "model", "owned_by": "mistralai", "max_context_length": 40960}
    }
    hottest = 1.5

    def wrong_key(self, key: str) -> Reply:
        """How it refuses a key."""
        return body(401, {"detail": "Unauthorized"})

    def parts(self, body: Json, scenario: Scenario) -> Parts:
        """The first text is a list of parts, after one of what the model thinks."""
        opening, texts, ending = openai_api.stream(body, scenario)
        thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]
        first = [{"type": "text", "text": json.loads(texts[0].data)["choices"][0]["delta"]["content"]}]
        return [*opening, _delta(thought), _delta([*thought, *first])], texts[1:], ending


class XAI(Compatible):
    """Refuses keys with 400."""

    fields = frozenset(f"{_SAMPLERS} stream_options max_tokens max_completion_tokens".split())
    models: ClassVar[Mapping[str, Json]] = {"grok": {"id": "grok", "object": "model", "owned_by": "xai"}}

    def wrong_key(self, key: str) -> Reply:
        """How it refuses a key."""
        message = (
            f"Incorrect API key provided: {key[:2]}***{key[-2:]}. You can obtain an API key from https://x.example."
        )
        return body(400, {"code": "Client specified an invalid argument", "error": message})

    def refusal_of(self, body: Json, scenario: Scenario) -> Reply | None:
        """Models that think take no stops."""
        return plain(400, "Model grok does not support parameter stop.") if "stop" in body else None


def _delta(content: object) -> Event:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    return Event(json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode())
