"""A service that took over OpenAI's API with limits of its own: what all of them have in common.

`/silent` before any path stands for a service that says nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from fakes.upstream import openai_api
from fakes.upstream.framing import Event
from fakes.upstream.http1 import Exchange, Output
from fakes.upstream.openai_api import Json, Reply
from fakes.upstream.scenario import Scenario, parse
from fakes.upstream.streaming import OPENAI_EVENTS, Form, answer, reply, stream

Parts = tuple[Sequence[Event], Sequence[Event], Sequence[Event]]


class OpenAIStyle(ABC):
    """One service. `errors`: its error bodies by the scenario's name; `fields`: what a request may hold."""

    key: ClassVar[str]
    models: ClassVar[Mapping[str, Json]]
    errors: ClassVar[Mapping[str, Reply]]
    fields: ClassVar[frozenset[str]]
    roles: ClassVar[Collection[str]] = ("system", "user", "assistant")
    prefixes: ClassVar[Collection[str]] = ("/v1",)
    most_stops: ClassVar[int | None] = None
    hottest: ClassVar[float] = 2.0
    events: ClassVar[Form[Event]] = OPENAI_EVENTS

    async def answer(self, exchange: Exchange, out: Output) -> None:
        """Answer one request as the service does, or as the scenario in its model id wants it."""
        if exchange.path.startswith("/silent/"):
            await out.stall()
        prefix = next((it for it in self.prefixes if exchange.path.startswith(it + "/")), "")
        route = exchange.method, exchange.path.removeprefix(prefix)
        refusal = self.check_key(exchange.headers, route[1])
        if refusal is not None:
            await reply(out, refusal)
        elif route == ("GET", "/models"):
            await answer(exchange, out, {"object": "list", "data": list(self.models.values())})
        elif route in (("POST", "/chat/completions"), ("POST", "/completions")):
            await self._complete(exchange, out, route[1])
        else:
            await self.other(exchange, out, route[1])

    async def other(self, exchange: Exchange, out: Output, path: str) -> None:
        """Answer a request for anything else."""
        await reply(out, self.unknown_path(exchange))

    def check_key(self, headers: Mapping[str, str], path: str) -> Reply | None:
        """The refusal of a wrong or missing key."""
        given = headers.get("authorization", "")
        return None if given == f"Bearer {self.key}" else self.wrong_key(given.removeprefix("Bearer "))

    @abstractmethod
    def wrong_key(self, key: str) -> Reply:
        """How it refuses a key."""

    @abstractmethod
    def unknown_model(self, model: str) -> Reply:
        """How it refuses a model."""

    @abstractmethod
    def unknown_field(self, name: str) -> Reply:
        """How it refuses a field."""

    @abstractmethod
    def bad_value(self, name: str, value: object) -> Reply:
        """How it refuses a value."""

    @abstractmethod
    def bad_message(self, number: int, message: Json) -> Reply | None:
        """How it refuses a message, where it does."""

    def unknown_path(self, exchange: Exchange) -> Reply:
        """How it says that there is nothing."""
        return openai_api.error(404, f"Unknown request URL: {exchange.method} {exchange.path}", code="unknown_url")

    def refusal_of(self, body: Json, scenario: Scenario) -> Reply | None:
        """The refusal of what only this service, or this model, refuses."""
        return None

    def parts(self, body: Json, scenario: Scenario) -> Parts:
        """The events of an answer: what opens it, its texts, what ends it."""
        return openai_api.stream(body, scenario)

    def whole(self, body: Json, scenario: Scenario) -> Json:
        """The answer in one piece."""
        return openai_api.completion(body, scenario)

    async def _complete(self, exchange: Exchange, out: Output, path: str) -> None:
        try:
            assert exchange.headers.get("content-type", "").split(";")[0] == "application/json"
            body = exchange.json()
            assert isinstance(body, dict)
            scenario = parse(body["model"])
        except (AssertionError, ValueError, KeyError, TypeError) as problem:
            await reply(out, openai_api.error(400, f"could not parse the request: {problem!r}"))
            return
        refusal = self._check(body, scenario, "messages" if path.startswith("/chat") else "prompt")
        if scenario.error == "echo-key":
            refusal = openai_api.error(500, f"debug: {exchange.headers}")
        if refusal is not None:
            await reply(out, refusal)
        elif not body.get("stream") or scenario.fail == "plain-json":
            await answer(exchange, out, self.whole(body, scenario))
        else:
            await stream(out, self.events, scenario, self.parts(body, scenario))

    def _check(self, body: Json, scenario: Scenario, said: str) -> Reply | None:
        unknown = sorted(set(body) - self.fields - {"model", "stream", said})
        if unknown:
            return self.unknown_field(unknown[0])
        if scenario.model not in self.models:
            return self.unknown_model(scenario.model)
        if scenario.error in self.errors:
            return self.errors[scenario.error]
        return self.refusal_of(body, scenario) or self._check_values(body) or self._check_messages(body)

    def _check_values(self, body: Json) -> Reply | None:
        stop = body.get("stop", [])
        if not all(stop) or (self.most_stops is not None and len(stop) > self.most_stops):
            return self.bad_value("stop", stop)
        if not 0 <= body.get("temperature", 1) <= self.hottest:
            return self.bad_value("temperature", body["temperature"])
        return None

    def _check_messages(self, body: Json) -> Reply | None:
        refusals = (self.bad_message(number, message) for number, message in enumerate(body.get("messages", ())))
        return next((refusal for refusal in refusals if refusal is not None), None)
