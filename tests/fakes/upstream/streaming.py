"""How a scenario's answer goes out, whatever the service: whole, as a proper stream, or as one that fails."""

import asyncio
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from fakes.upstream.framing import Event, pieces
from fakes.upstream.http1 import Exchange, Output
from fakes.upstream.openai_api import STREAM_ERROR, Json, Reply
from fakes.upstream.scenario import Scenario

JSON: Final = {"Content-Type": "application/json"}
SSE: Final = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
_DRIP_S: Final = 0.002

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Form(Generic[Part]):
    """How a service writes a stream. `cut`: the HTTP chunks of these parts under a frame and a seed.

    `waiting` is what it sends while there is nothing to say; `last_words` what comes before a stream fails, by
    failure; `endless` the beginning of what never ends.
    """

    head: Mapping[str, str]
    cut: Callable[[Sequence[Part], str, int], list[bytes]]
    waiting: bytes
    last_words: Mapping[str, bytes]
    endless: bytes


def server_sent(error: Json, half: bytes) -> Form[Event]:
    """Server-sent events. `error`: one inside a stream; `half`: the beginning of an event's data."""
    said = json.dumps(error).encode()
    return Form(
        SSE,
        lambda events, frame, seed: pieces(list(events), frame, seed),
        b": keep-alive\n\n",
        {
            "no-end": b"",
            "half-event": b"data: " + half,
            "error-event": b"data: " + said + b"\n\n",
            "error-named": b"event: error\ndata: " + said + b"\n\n",
            "error-text": b"data: upstream went away\nevent: error\n\n",
            "broken-json": b"data: " + half + b'"x}\n\n',
        },
        b"data: " + b"x" * 65536,
    )


OPENAI_EVENTS: Final = server_sent(STREAM_ERROR, b'{"choices":[{"index":0,"delta":{"content":')


def spoken(texts: Sequence[str], frame: str) -> list[str]:
    """The texts as they are, or each half of a surrogate pair by itself."""
    if frame != "halved":
        return list(texts)
    raw = [text.encode("utf-16-le") for text in texts]
    return [data[i : i + 2].decode("utf-16-le", "surrogatepass") for data in raw for i in range(0, len(data), 2)]


def dumped(value: Json, frame: str) -> bytes:
    """JSON in one line, with escapes where the frame asks for them."""
    return json.dumps(value, ensure_ascii=frame in ("escaped", "halved"), separators=(",", ":")).encode()


async def reply(out: Output, answer: Reply) -> None:
    """A whole response that was made ready before."""
    await out.whole(answer.status, answer.headers, answer.body)


async def answer(exchange: Exchange, out: Output, value: Reply | Json) -> None:
    """A whole response."""
    if isinstance(value, Reply):
        await reply(out, value)
        return
    body = json.dumps(value).encode()
    if "gzip" in exchange.headers.get("accept-encoding", ""):
        await out.whole(200, {**JSON, "Content-Encoding": "gzip"}, gzip.compress(body))
    else:
        # Blank lines are what some services keep a slow answer alive with.
        await out.whole(200, JSON, b"\n\n" + body)


async def stream(
    out: Output,
    form: Form[Part],
    scenario: Scenario,
    parts: tuple[Sequence[Part], Sequence[Part], Sequence[Part]],
) -> None:
    """A stream. `parts`: what opens it, its texts, what ends it."""
    opening, texts, ending = parts
    if scenario.fail == "silent":
        await out.stall()
    if scenario.fail == "endless-error":
        await out.head(500, {"Content-Type": "text/plain"})
        await for_ever(out, b"no " * 4096)
    await out.head(200, form.head)
    if scenario.fail == "headers":
        await out.stall()
    for _ in range(scenario.waits):
        await out.chunk(form.waiting)
    if not scenario.fail:
        await _proper(out, form, scenario, [*opening, *texts, *ending])
        return
    for piece in form.cut([*opening, *texts[: scenario.after]], scenario.frame, scenario.seed):
        await out.chunk(piece)
    await _fail(out, form, scenario, texts)


async def _proper(out: Output, form: Form[Part], scenario: Scenario, parts: Sequence[Part]) -> None:
    for piece in form.cut(parts, scenario.frame, scenario.seed):
        await out.chunk(piece)
        if scenario.end == "reason-first":
            await asyncio.sleep(_DRIP_S)
    if scenario.end.startswith("held"):
        await out.stall()
    await out.finish()


async def _fail(out: Output, form: Form[Part], scenario: Scenario, texts: Sequence[Part]) -> None:
    match scenario.fail:
        case "stall":
            await out.stall()
        case "drip":
            await for_ever(out, b"".join(form.cut(texts[:1], "normal", 0)))
        case "cut":
            out.abort()
        case "close":
            out.close()
        case "endless-event":
            await for_ever(out, form.endless)
        case other:
            if form.last_words[other]:
                await out.chunk(form.last_words[other])
            await out.finish()


async def for_ever(out: Output, data: bytes) -> None:
    """The same again and again, until the peer has had enough."""
    while True:
        await out.chunk(data)
        await asyncio.sleep(_DRIP_S)
