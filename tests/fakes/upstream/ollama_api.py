"""Ollama as the program itself behaves: what it has, what is in its memory, JSON lines, its own error sentences."""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fakes.upstream.framing import cut
from fakes.upstream.http1 import Exchange, Output
from fakes.upstream.openai_api import Json, Reply, html
from fakes.upstream.scenario import SAYINGS, Scenario, parse
from fakes.upstream.streaming import Form, answer, dumped, reply, spoken, stream

GOOD_KEY: Final = "good-ollama-key-0123456789abcdefghijkl"
GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Model:
    """One model of Ollama's library."""

    size: int
    capabilities: tuple[str, ...]
    context: int = 8192
    family: str = "llama"


LIBRARY: Final[Mapping[str, Model]] = {
    "llama3.2:latest": Model(2 * GIB, ("completion", "tools"), 131072),
    "qwen3:4b": Model(3 * GIB, ("completion", "thinking"), 40960, "qwen3"),
    "nomic-embed-text:latest": Model(GIB // 4, ("embedding",), 2048, "nomic-bert"),
    "huge:70b": Model(40 * GIB, ("completion",)),
    # Not there until somebody pulls it.
    "phi4:latest": Model(9 * GIB, ("completion",), 16384, "phi3"),
}
INSTALLED: Final = tuple(name for name in LIBRARY if not name.startswith("phi4"))
_MEMORY: Final = 16 * GIB
_CHAT_FIELDS: Final = frozenset("model messages tools stream format options keep_alive think".split())
_GENERATE_FIELDS: Final = frozenset(
    "model prompt suffix system template context stream raw format images options keep_alive think".split()
)
_OPTIONS: Final[Mapping[str, type | tuple[type, ...]]] = {
    **dict.fromkeys("num_predict num_ctx top_k repeat_last_n seed num_keep num_gpu num_thread".split(), int),
    **dict.fromkeys(
        "temperature top_p min_p typical_p repeat_penalty presence_penalty frequency_penalty".split(), (int, float)
    ),
    "stop": list,
}
_ROLES: Final = ("system", "user", "assistant", "tool")
_DURATION: Final = re.compile(r"-?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+")


def error(status: int, message: str, **more: str) -> Reply:
    """An error in Ollama's own form."""
    return Reply(status, json.dumps({"error": message, **more}).encode())


ERRORS: Final[Mapping[str, Reply]] = {
    "memory": error(500, "model requires more system memory (40.2 GiB) than is available (11.9 GiB)"),
    "cuda": error(500, "llama runner process has terminated: cudaMalloc failed: out of memory"),
    "busy": error(503, "server busy, please try again.  maximum pending requests exceeded"),
    "signin": error(401, "unauthorized", signin_url="https://ollama.com/connect?name=box"),
    "payment": error(402, "this model requires a subscription"),
    "gone": error(404, "model 'llama3.2' not found"),
    "no-chat": error(400, '"llama3.2" does not support chat'),
    "context": error(400, "the input length exceeds the context length"),
    "too-large": error(413, "http: request body too large"),
    "rate": error(429, "you have reached your hourly usage limit"),
    "internal": error(500, "llama runner process no longer running: 2"),
    "bad-gateway": error(502, "upstream unavailable"),
    "edge": html(403, "Attention Required! | Cloudflare"),
    "odd": error(418, "teapot"),
}
_LAST_ERRORS: Final[Mapping[str, str]] = {
    "memory": "cudaMalloc failed: out of memory",
    "content": "an error was encountered while running the model: unexpected EOF",
}


class Ollama:
    """The program. `have`: the models it has; `memory`: those in memory, with their keep_alive; `contexts`: theirs.

    `show`: how it answers about one model: "", "refuse" or "stall".
    """

    def __init__(self, installed: Sequence[str] = INSTALLED, *, refuses_think: Sequence[str] = ()) -> None:
        self.have = list(installed)
        self.memory: dict[str, object] = {}
        self.contexts: dict[str, int | None] = {}
        self.show = ""
        self._refuses_think = refuses_think

    async def answer(self, exchange: Exchange, out: Output) -> None:
        """Answer one request as the program does, or as the scenario in its model id wants it."""
        match exchange.method, exchange.path:
            case _, path if path.startswith("/silent/"):
                await out.stall()
            case _, path if path.startswith("/page/"):
                await reply(out, html(200, "Welcome"))
            case _, path if path.startswith("/other/"):
                await reply(out, Reply(200, b'["Ollama is not here"]'))
            case _ if not _may_ask(exchange.headers):
                await reply(out, error(401, "unauthorized"))
            case "GET", "/api/version":
                await answer(exchange, out, {"version": "0.13.5"})
            case "GET", "/api/tags":
                await answer(exchange, out, {"models": [_tag(name) for name in self.have]})
            case "GET", "/api/ps":
                await answer(exchange, out, {"models": [_tag(name) for name in self.memory]})
            case "POST", "/api/show" | "/api/chat" | "/api/generate" | "/api/pull":
                await self._post(exchange, out)
            case _:
                await out.whole(404, {"Content-Type": "text/plain"}, b"404 page not found")

    async def _post(self, exchange: Exchange, out: Output) -> None:
        try:
            body = exchange.json()
            assert isinstance(body, dict)
            scenario = parse(body["model"])
        except (AssertionError, AttributeError, ValueError, KeyError, TypeError) as problem:
            await reply(out, error(400, f"invalid request: {problem!r}"))
            return
        match exchange.path:
            case "/api/show":
                await self._show(exchange, out, scenario)
            case "/api/pull":
                await self._pull(out, body, scenario)
            case path:
                await self._talk(exchange, out, body, scenario, chat=path == "/api/chat")

    async def _show(self, exchange: Exchange, out: Output, scenario: Scenario) -> None:
        name = tagged(scenario.model)
        if self.show == "stall":
            await out.stall()
        if self.show == "refuse" or name not in self.have:
            await reply(out, _not_found(scenario.model))
            return
        model = LIBRARY[name]
        info = {"general.architecture": model.family, f"{model.family}.context_length": model.context}
        shown = {"details": _details(model), "model_info": info, "capabilities": list(model.capabilities)}
        await answer(exchange, out, {"modelfile": "FROM x", "template": "{{ .Prompt }}", **shown})

    async def _pull(self, out: Output, body: Json, scenario: Scenario) -> None:
        if set(body) - {"model", "stream", "insecure"}:
            await reply(out, error(400, "invalid request"))
            return
        name = tagged(scenario.model)
        opening: list[Json] = [{"status": "pulling manifest"}]
        if name not in LIBRARY:
            lines = [
                dumped(line, "normal") for line in (*opening, {"error": "pull model manifest: file does not exist"})
            ]
            await stream(out, _form(scenario), scenario, (lines, [], []))
            return
        layers = [("sha256:big", 8000), ("sha256:small", 40)]
        parts = [
            {"status": f"pulling {digest[7:]}", "digest": digest, "total": size, "completed": size * quarter // 4}
            for digest, size in layers
            for quarter in range(5)
        ]
        # Ollama leaves out what is zero.
        texts: list[Json] = [{key: value for key, value in part.items() if value != 0} for part in parts]
        ending: list[Json] = [{"status": "verifying sha256 digest"}, {"status": "writing manifest"}]
        if scenario.fail == "" and scenario.end != "only-reason":
            self.have.append(name)
            ending.append({"status": "success"})
        await stream(
            out, _form(scenario), scenario,
            (_encoded(opening, scenario), _encoded(texts, scenario), _encoded(ending, scenario)),
        )  # fmt: skip

    async def _talk(self, exchange: Exchange, out: Output, body: Json, scenario: Scenario, *, chat: bool) -> None:
        refusal = self._refusal(body, scenario, chat=chat)
        if scenario.error == "echo-key":
            refusal = error(500, f"debug: {exchange.headers}")
        if refusal is not None:
            await reply(out, refusal)
            return
        name = tagged(scenario.model)
        if body.get("keep_alive", 1) == 0:
            self.memory.pop(name, None)
        else:
            self.memory[name] = body.get("keep_alive", "5m")
            self.contexts[name] = body.get("options", {}).get("num_ctx")
        if not body.get("messages" if chat else "prompt"):
            if scenario.fail == "silent":
                await out.stall()
            reason = "unload" if name not in self.memory else "load"
            await answer(exchange, out, {**_shell(scenario, "", chat=chat), "done": True, "done_reason": reason})
        elif body.get("stream") is False or scenario.fail == "plain-json":
            await answer(exchange, out, whole(body, scenario, chat=chat))
        else:
            await stream(out, _form(scenario), scenario, lines(body, scenario, chat=chat))

    def _refusal(self, body: Json, scenario: Scenario, *, chat: bool) -> Reply | None:
        name = tagged(scenario.model)
        unknown = set(body) - (_CHAT_FIELDS if chat else _GENERATE_FIELDS)
        if unknown:
            return error(400, f"unknown field: {sorted(unknown)[0]}")
        if name not in self.have:
            return _not_found(scenario.model)
        model = LIBRARY[name]
        if "completion" not in model.capabilities:
            return error(400, f'"{scenario.model}" does not support {"chat" if chat else "generate"}')
        if "think" in body and scenario.model in self._refuses_think:
            return error(400, f'"{scenario.model}" does not support thinking')
        if scenario.error in ERRORS:
            return ERRORS[scenario.error]
        if model.size > _MEMORY:
            return ERRORS["memory"]
        return _check_memory(body) or _check_options(body.get("options", {})) or _check_messages(body, chat=chat)


def _may_ask(headers: Mapping[str, str]) -> bool:
    """Ollama itself asks nobody for a key; what stands before it, or the hosted one, refuses a wrong one."""
    return headers.get("authorization", f"Bearer {GOOD_KEY}") == f"Bearer {GOOD_KEY}"


def _check_memory(body: Json) -> Reply | None:
    keep = body.get("keep_alive", 0)
    if isinstance(keep, str) and not _DURATION.fullmatch(keep):
        return error(400, f'time: invalid duration "{keep}"')
    return None


def _check_options(options: Json) -> Reply | None:
    for name, value in options.items():
        if name not in _OPTIONS:
            return error(400, f"invalid option provided: {name}")
        if not isinstance(value, _OPTIONS[name]) or isinstance(value, bool):
            return error(400, f'option "{name}" has the wrong type')
    if not all(isinstance(stop, str) and stop for stop in options.get("stop", [])):
        return error(400, 'option "stop" must be of an array of strings')
    return None


def _check_messages(body: Json, *, chat: bool) -> Reply | None:
    for message in body.get("messages", []) if chat else ():
        if message.get("role") not in _ROLES:
            return error(400, f"invalid role: {message.get('role')}")
        if set(message) - {"role", "content", "thinking", "images", "tool_calls", "tool_name"}:
            return error(400, f"unknown field in message: {sorted(message)}")
        if not isinstance(message.get("content"), str):
            return error(400, "json: cannot unmarshal into Go struct field ChatRequest.messages of type string")
    return None


def tagged(name: str) -> str:
    """A name without a tag means the one called latest."""
    return name if ":" in name else f"{name}:latest"


def _not_found(name: str) -> Reply:
    return error(404, f"model '{name}' not found")


def _details(model: Model) -> Json:
    return {
        "parent_model": "", "format": "gguf", "family": model.family, "families": [model.family],
        "parameter_size": "3.2B", "quantization_level": "Q4_K_M",
    }  # fmt: skip


def _tag(name: str) -> Json:
    return {
        "name": name, "model": name, "modified_at": "2026-01-02T03:04:05.678901234Z", "size": LIBRARY[name].size,
        "digest": f"digest-of-{name}", "details": _details(LIBRARY[name]),
    }  # fmt: skip


def _said(body: Json, scenario: Scenario, *, chat: bool) -> tuple[list[str], bool]:
    """The pieces of the answer, and whether there would be more."""
    if scenario.say == "echo":
        text = str(body["messages"][-1]["content"] if chat else body["prompt"])
        pieces = [text[i : i + 4] for i in range(0, len(text), 4)]
    else:
        pieces = spoken(SAYINGS[scenario.say], scenario.frame)
    length = body.get("options", {}).get("num_predict", -1)
    return (pieces[:length], len(pieces) > length) if length >= 0 else (pieces, False)


def _shell(scenario: Scenario, text: str, *, chat: bool, thinking: str = "") -> Json:
    line: Json = {"model": scenario.model, "created_at": "2026-01-02T03:04:05.678901234Z"}
    if not chat:
        return {**line, "response": text, "done": False}
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    return {**line, "message": message, "done": False}


def _end(scenario: Scenario, text: str, count: int, *, chat: bool, cut_off: bool) -> Json:
    reason = "length" if cut_off else scenario.reason
    end: Json = {**_shell(scenario, text, chat=chat), "done": True, "done_reason": reason}
    if scenario.end == "only-done":
        # As older versions do, and those that stand in for Ollama.
        del end["done_reason"]
        return end
    return {**end, "total_duration": 9, "prompt_eval_count": 9, "eval_count": count}


def lines(body: Json, scenario: Scenario, *, chat: bool) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """The lines of an answer: what opens it, its texts, what ends it."""
    pieces, cut_off = _said(body, scenario, chat=chat)
    opening: list[Json] = []
    if scenario.kind == "thinking":
        opening = [_shell(scenario, "", chat=chat, thinking=text) for text in ("Hm", ", so")]
    count = len(pieces)
    last = pieces.pop() if scenario.end == "reason-first" and pieces else ""
    ending = [_end(scenario, last, count, chat=chat, cut_off=cut_off)]
    texts = [_shell(scenario, text, chat=chat) for text in pieces]
    return _encoded(opening, scenario), _encoded(texts, scenario), _encoded(ending, scenario)


def whole(body: Json, scenario: Scenario, *, chat: bool) -> Json:
    """The answer in one piece."""
    pieces, cut_off = _said(body, scenario, chat=chat)
    return _end(scenario, "".join(pieces), len(pieces), chat=chat, cut_off=cut_off)


def _encoded(values: Sequence[Json], scenario: Scenario) -> list[bytes]:
    return [dumped(value, scenario.frame) for value in values]


def _form(scenario: Scenario) -> Form[bytes]:
    """JSON lines."""
    said = json.dumps({"error": _LAST_ERRORS.get(scenario.kind, _LAST_ERRORS["content"])}).encode() + b"\n"
    waiting = dumped(_shell(scenario, "", chat=True, thinking="hm"), "normal") + b"\n"
    half = b'{"model":"x","message":{"role":"assistant","content":"Hel'
    return Form(
        {"Content-Type": "application/x-ndjson"},
        _pieces,
        waiting,
        {
            "no-end": b"",
            "half-event": half,
            "error-event": said,
            "error-named": said.rstrip(b"\n"),
            "error-text": b"upstream went away\n",
            "broken-json": half + b"\n",
        },
        b"x" * 65536,
    )


def _pieces(parts: Sequence[bytes], frame: str, seed: int) -> list[bytes]:
    """The HTTP chunks of these lines. Frames that only server-sent events have mean blanks between the tokens."""
    blocks = [_block(part, frame) for part in parts]
    if frame == "unterminated" and blocks:
        blocks[-1] = blocks[-1].rstrip(b"\n")
    return cut(blocks, frame, random.Random(seed))


def _block(line: bytes, frame: str) -> bytes:
    match frame:
        case "comments":
            return b"\n \n" + line + b"\n\n"
        case "crlf" | "crlf-bytes":
            return line + b"\r\n"
        case "cr":
            return line.replace(b"{", b"{\r", 1) + b"\n"
        case "no-space" | "fields" | "split-data" | "byte-order-mark":
            return line.replace(b",", b" ,\t", 1) + b" \n"
    return line + b"\n"
