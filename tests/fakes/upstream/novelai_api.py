"""NovelAI's text API as the service itself behaves: two routes, one generation per account, its own error bodies.

The older route's limits are those of the published schema, and the sentences of its errors those that clients quote;
the one about too long a context is made up, since nobody quotes it.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from fakes.upstream.framing import Event
from fakes.upstream.http1 import Exchange, Output
from fakes.upstream.openai_api import Json, Reply, html
from fakes.upstream.scenario import SAYINGS, Scenario, parse
from fakes.upstream.streaming import JSON, answer, dumped, reply, server_sent, spoken, stream

GOOD_TOKEN: Final = "pst-good0123456789abcdefghijklmnopqrstuvw"
# The token of a plan that hasn't all models.
SCROLL_TOKEN: Final = "pst-scroll0123456789abcdefghijklmnopqrstu"

CHAT_MODELS: Final = ("glm-4-6", "xialong-v1")
VOCABULARIES: Final[Mapping[str, int]] = {"llama-3-erato-v1": 128256, "kayra-v1": 65535}
_CHAT_FIELDS: Final = frozenset(
    "model messages prompt max_tokens temperature top_p top_k min_p frequency_penalty presence_penalty stop seed stream"
    " logit_bias enable_thinking generation_prefix".split()
)
_REQUIRED: Final = ("min_length", "max_length", "force_emotion")
# Name -> the range of the schema, None where it gives none.
_PARAMETERS: Final[Mapping[str, tuple[float, float] | None]] = {
    "temperature": (0.1, 100),
    "min_length": (1, 2048),
    "max_length": (1, 2048),
    "repetition_penalty_range": (0, 8192),
    "repetition_penalty_frequency": (-2, 2),
    "repetition_penalty_presence": (-2, 2),
    "num_logprobs": (0, 30),
    **dict.fromkeys(
        "stop_sequences bad_words_ids order use_string top_k top_p min_p top_a typical_p tail_free_sampling"
        " repetition_penalty repetition_penalty_slope generate_until_sentence use_cache force_emotion prefix".split()
    ),
}
_SAMPLERS: Final = range(11)
# The sayings of a model that goes on as somebody else.
_SAYINGS: Final[Mapping[str, tuple[str, ...]]] = {
    **SAYINGS,
    "as-dev": ("Fine.", "\nDe", "v:", " and so on"),
    "as-user": ("Fine.", "\n", "User: and so on"),
    "marker": ("Fine.", "<", "|eot_id|>", " and so on"),
}
_MOST_CHARACTERS: Final = 40000


def error(status: int, message: str) -> Reply:
    """An error in the service's own form."""
    return Reply(status, json.dumps({"statusCode": status, "message": message}).encode())


def in_200(message: str) -> Reply:
    """An error that comes as a success."""
    return Reply(200, json.dumps({"error": message}).encode(), JSON)


LOCKED: Final = error(429, "Concurrent generation is locked")
_TIER: Final = "model 'xialong-v1' not allowed for current user tier 'Scroll'"
_TOO_LONG: Final = "Input is too long: 9001 tokens exceed the context size of 8192"
ERRORS: Final[Mapping[str, Reply]] = {
    "payment": error(402, "An active subscription is required to access this endpoint."),
    "subscription": error(409, "Incorrect subscription."),
    "tier": error(400, _TIER),
    "wrong-route": error(400, "Model 'clio-v1' not available via OpenAI-compatible API. Use main NovelAI API."),
    "context": error(400, _TOO_LONG),
    "rate": error(429, "Too Many Requests"),
    "internal": error(500, "An unknown error occured."),
    "bad-gateway": html(502, "502 Bad Gateway"),
    "edge": html(403, "Access denied | Error 1010"),
    "in-200": in_200("Generation node failed"),
    "tier-in-200": in_200(_TIER),
    "context-in-200": in_200(_TOO_LONG),
    "odd": error(418, "I'm a teapot"),
}
_STREAM_ERROR: Final[Json] = {"error": "Generation node failed"}
_CHAT: Final = server_sent(_STREAM_ERROR, b'{"choices":[{"index":0,"delta":{"content":')
_OLDER: Final = server_sent(_STREAM_ERROR, b'{"ptr":1,"final":false,"token":')


class NovelAI:
    """The text host. `linger`: how many generations find the account still locked, as after a closed connection."""

    def __init__(self) -> None:
        self.linger = 0
        self.listed: tuple[str, ...] = CHAT_MODELS
        self._busy = False

    async def answer(self, exchange: Exchange, out: Output) -> None:
        """Answer one request as the service does, or as the scenario in its model id wants it."""
        refusal = check_caller(exchange.headers)
        match exchange.method, exchange.path:
            case _, path if path.startswith("/silent/"):
                await out.stall()
            case _ if refusal is not None:
                await reply(out, refusal)
            case "GET", "/oa/v1/models":
                data = [{"id": name, "object": "model", "owned_by": "novelai"} for name in self.listed]
                await answer(exchange, out, {"object": "list", "data": data})
            case "POST", "/oa/v1/chat/completions" | "/oa/v1/completions" | "/ai/generate" | "/ai/generate-stream":
                await self._generate(exchange, out)
            case method, path:
                await reply(out, error(404, f"Cannot {method} {path}"))

    async def _generate(self, exchange: Exchange, out: Output) -> None:
        try:
            assert exchange.headers.get("content-type", "").split(";")[0] == "application/json"
            body = exchange.json()
            assert isinstance(body, dict)
            scenario = parse(body["model"])
        except (AssertionError, AttributeError, ValueError, KeyError, TypeError) as problem:
            await reply(out, error(400, f"could not read the request: {problem!r}"))
            return
        older = exchange.path.startswith("/ai/")
        tier = "Scroll" if exchange.headers["authorization"].endswith(SCROLL_TOKEN) else "Opus"
        refusal = (check_older if older else check_chat)(body, scenario, tier)
        if scenario.error == "echo-key":
            refusal = error(500, f"debug: {exchange.headers}")
        if refusal is None and (self._busy or self.linger):
            self.linger = max(self.linger - 1, 0)
            refusal = LOCKED
        if refusal is not None:
            await reply(out, refusal)
            return
        self._busy = True
        try:
            await self._write(exchange, out, body, scenario)
        finally:
            self._busy = False

    async def _write(self, exchange: Exchange, out: Output, body: Json, scenario: Scenario) -> None:
        older = exchange.path.startswith("/ai/")
        whole = "".join(said(body, scenario))
        if scenario.fail == "plain-json" or exchange.path == "/ai/generate":
            shape = {"output": whole} if older else completion(whole, scenario)
            self._busy = False
            await answer(exchange, out, shape)
        elif older:
            await stream(_Freeing(self, out), _OLDER, scenario, older_stream(body, scenario))
        elif body.get("stream"):
            await stream(_Freeing(self, out), _CHAT, scenario, chat_stream(body, scenario))
        else:
            self._busy = False
            await answer(exchange, out, completion("", scenario))

    def free(self) -> None:
        """The next generation may begin."""
        self._busy = False


class _Freeing(Output):
    """The output of a generation that is over the moment its stream ends: the client may ask again at once."""

    def __init__(self, service: NovelAI, out: Output) -> None:
        super().__init__(out._connection, out._exchange)
        self._service = service

    async def finish(self) -> None:
        self._service.free()
        await super().finish()


def check_caller(headers: Mapping[str, str]) -> Reply | None:
    """What stands before the service refuses callers without a name, the service those without a good token."""
    agent = headers.get("user-agent", "")
    if not agent or agent.startswith("Python-urllib"):
        return html(403, "Access denied | Error 1010")
    if headers.get("authorization", "").removeprefix("Bearer ") not in (GOOD_TOKEN, SCROLL_TOKEN):
        return error(401, "Unauthorized")
    return None


def check_chat(body: Json, scenario: Scenario, tier: str) -> Reply | None:
    """The refusal of a request to the newer route."""
    unknown = sorted(set(body) - _CHAT_FIELDS)
    if unknown:
        return error(400, f"unknown field: {unknown[0]}")
    if scenario.model in VOCABULARIES:
        text = f"Model '{scenario.model}' not available via OpenAI-compatible API. Use main NovelAI API."
        return error(400, text)
    if scenario.model not in CHAT_MODELS:
        return error(400, f"model '{scenario.model}' not found")
    if scenario.model == "xialong-v1" and tier == "Scroll":
        return ERRORS["tier"]
    if scenario.error in ERRORS:
        return ERRORS[scenario.error]
    if bool(body.get("messages")) == ("prompt" in body):
        return error(400, "messages is required")
    for message in body.get("messages", []):
        if set(message) != {"role", "content"} or message["role"] not in ("system", "user", "assistant"):
            return error(400, "invalid message")
    if not all(isinstance(stop, str) and stop for stop in body.get("stop", [])):
        return error(400, "stop: strings expected")
    return None


def check_older(body: Json, scenario: Scenario, tier: str) -> Reply | None:
    """The refusal of a request to the older route, by its published schema."""
    del tier  # the older models come with every plan
    if set(body) != {"input", "model", "parameters"}:
        return error(400, "property input, model and parameters are expected")
    if scenario.model not in VOCABULARIES:
        return error(400, "model must be one of the following values: kayra-v1, llama-3-erato-v1")
    if scenario.error in ERRORS:
        return ERRORS[scenario.error]
    if len(body["input"]) > _MOST_CHARACTERS:
        return error(400, f"input must be shorter than or equal to {_MOST_CHARACTERS} characters")
    return _check_parameters(body["parameters"], VOCABULARIES[scenario.model])


def _check_parameters(parameters: Json, vocabulary: int) -> Reply | None:
    for name in _REQUIRED:
        if name not in parameters:
            return error(400, f"parameters.{name} should not be empty")
    for name, value in parameters.items():
        if name not in _PARAMETERS:
            return error(400, f"property {name} should not exist")
        limits = _PARAMETERS[name]
        if limits is not None and not limits[0] <= value <= limits[1]:
            return error(400, f"parameters.{name} must be from {limits[0]} to {limits[1]}")
    order = parameters.get("order", [])
    if len(order) > 6 or not all(sampler in _SAMPLERS for sampler in order):
        return error(400, "parameters.order must contain no more than 6 elements")
    for sequence in parameters.get("stop_sequences", []):
        if not isinstance(sequence, list) or not all(0 <= token < vocabulary for token in sequence):
            return error(500, "An unknown error occured.")
    return None


def said(body: Json, scenario: Scenario) -> list[str]:
    """The pieces of the answer, as many as the request allows."""
    length = body["parameters"]["max_length"] if "parameters" in body else body.get("max_tokens", 250)
    if scenario.say != "echo":
        return spoken(_SAYINGS[scenario.say], scenario.frame)[:length]
    text = last_user(body)
    return [text[i : i + 4] for i in range(0, len(text), 4)][:length]


def last_user(body: Json) -> str:
    """What the user said last, also out of a text in which it is one of several turns."""
    if "input" not in body:
        return str(body["messages"][-1]["content"])
    before = body["input"].rpartition("\nAI:")[0] or body["input"].rpartition("<|eot_id|>")[0]
    return str(before.rpartition("User: ")[2].rpartition("<|end_header_id|>\n\n")[2])


def chat_stream(body: Json, scenario: Scenario) -> tuple[list[Event], list[Event], list[Event]]:
    """The events of the newer route: with text and token ids, without any usage."""
    opening = [_chunk(scenario, {"role": "assistant", "content": ""})]
    if scenario.kind == "thinking":
        opening += [_chunk(scenario, {"reasoning_content": text}) for text in ("Hm", ", so")]
    if scenario.kind == "text" or "prompt" in body:
        texts = [_chunk(scenario, None, text=text) for text in said(body, scenario)]
    else:
        texts = [_chunk(scenario, {"content": text}) for text in said(body, scenario)]
    ending = [] if scenario.end == "only-done" else [_chunk(scenario, {}, finish_reason=scenario.reason)]
    if scenario.end == "reason-first" and texts:
        ending.append(texts.pop())
    if scenario.end not in ("only-reason", "held-open"):
        ending.append(Event(b"[DONE]"))
    return opening, texts, ending


def older_stream(body: Json, scenario: Scenario) -> tuple[list[Event], list[Event], list[Event]]:
    """The events of the older route. The final one may carry text, and nothing comes after it."""
    pieces = said(body, scenario)
    with_text = scenario.end in ("only-done", "reason-first") and pieces
    last = pieces.pop() if with_text else ""
    texts = [_token(scenario, number, text) for number, text in enumerate(pieces)]
    return [], texts, [_token(scenario, len(pieces), last, final=True)]


def completion(text: str, scenario: Scenario) -> Json:
    """The newer route's answer in one piece: really without text, whose token ids have to do."""
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "token_ids": [1, 2], "finish_reason": scenario.reason}]}


def _chunk(scenario: Scenario, delta: Json | None, **more: Any) -> Event:
    choice: Json = {"index": 0, "token_ids": [1], "finish_reason": None, **more}
    if delta is not None:
        choice["delta"] = delta
    return Event(dumped({"object": "chat.completion.chunk", "choices": [choice]}, scenario.frame))


def _token(scenario: Scenario, number: int, text: str, *, final: bool = False) -> Event:
    data = {"token": text, "ptr": number, "final": final, "logprobs": None}
    return Event(dumped(data, scenario.frame), name="newToken", id=str(number))
