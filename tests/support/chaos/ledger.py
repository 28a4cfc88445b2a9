"""What every client of a chaos run asked for and heard, and what that breaks: invariants I1, I2 and I5."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

TERMINALS: Final = frozenset(
    "generate_done generate_stream_done load_done get_models_done unload_done get_providers_done get_stats_done"
    " interrupt_ack close_ack".split()
)
_ACKS: Final = {"generate_ack", "load_ack"}
# Between a timeout and its terminal message a worker may have to be killed.
PATIENCE_S: Final = 15.0


@dataclass(frozen=True)
class Plan:
    """A generation: what is asked, and the whole text of its answer; None where any text is right.

    `fails`: it must not be told as a success.
    """

    provider: str
    model_id: str
    text: str = "x"
    whole: str | None = None
    timeout_ms: int = 20_000
    fails: bool = False

    def __str__(self) -> str:
        return f"{self.provider} {self.model_id}"


@dataclass
class Request:
    """One request on one connection."""

    who: str
    kind: str
    plan: Plan | None
    deadline: float
    pieces: list[str] = field(default_factory=list)
    acks: int = 0
    terminals: int = 0
    outcome: str = ""
    told: str = ""


class Ledger:
    """All requests of the run. `breaches`: sentences, one per broken promise, in the order they were found."""

    def __init__(self, canaries: tuple[str, ...]) -> None:
        self.breaches: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.lost = 0
        self.double = 0
        self._canaries = canaries

    def breach(self, sentence: str) -> None:
        """A promise was broken."""
        self.breaches.append(sentence)

    def book(self, who: str) -> "Book":
        """The book of a new connection."""
        return Book(self, who)

    def check_secrets(self, where: str, text: str) -> None:
        """Nothing that is told, written or started holds a key."""
        if any(canary in text for canary in self._canaries):
            self.breach(f"I5: a key in {where}")


class Book:
    """One connection's requests; `hear` is given every message of its."""

    def __init__(self, ledger: Ledger, who: str) -> None:
        self.requests: dict[str, Request] = {}
        self.errors = 0
        self._ledger = ledger
        self._who = who

    def ask(self, request_id: str, kind: str, plan: Plan | None = None, within_s: float = 60.0) -> Request:
        """A request is sent; its terminal message must come in that time."""
        if plan is not None:
            within_s = plan.timeout_ms / 1000
        request = Request(self._who, kind, plan, time.monotonic() + within_s + PATIENCE_S)
        self.requests[request_id] = request
        self._ledger.done[f"request: {kind}"] += 1
        return request

    def hear(self, message: dict[str, Any]) -> None:
        """Judge one message."""
        kind, request = message.get("type"), self.requests.get(str(message.get("unique_request_id")))
        if "message" in message:
            self._ledger.check_secrets(f"a message to {self._who}", str(message["message"]))
        if kind == "error":
            self.errors += 1
        elif request is None:
            self._ledger.breach(f"I1: {self._who} heard {kind} of an id that it never used")
        elif request.terminals and kind not in TERMINALS:
            self._ledger.breach(f"I1: {self._who} heard {kind} after the end of {request.kind} {request.plan}")
        elif kind in _ACKS:
            request.acks += 1
        elif kind == "generate_stream_chunk":
            request.pieces.append(message["chunk"])
        elif kind in TERMINALS:
            self._end(request, message)

    def _end(self, request: Request, message: dict[str, Any]) -> None:
        request.terminals += 1
        if request.terminals > 1:
            self._ledger.double += 1
            self._ledger.breach(f"I1: {request.who} heard a second end of {request.kind} {request.plan}")
            return
        request.outcome, request.told = message.get("error", "SUCCESS"), str(message.get("message", ""))
        self._ledger.outcomes[f"{request.kind}: {request.outcome}"] += 1
        if request.plan is not None:
            request.pieces.append(message.get("response", ""))
            self._judge_text(request, request.plan)

    def _judge_text(self, request: Request, plan: Plan) -> None:
        text = "".join(request.pieces)
        if request.outcome == "SUCCESS" and plan.fails:
            self._ledger.breach(f"{request.who} was told that {plan} succeeded")
        elif plan.whole is None:
            return
        elif request.outcome == "SUCCESS" and text != plan.whole:
            self._ledger.breach(f"I2: {request.who} got {text[:80]!r} ({len(text)}) of {plan}")
        elif not plan.whole.startswith(text):
            self._ledger.breach(f"I2: {request.who} got {text[:80]!r} ({len(text)}), no beginning of {plan}")

    def overdue(self, now: float) -> list[Request]:
        """What should have ended by now."""
        return [request for request in self.requests.values() if not request.terminals and request.deadline < now]

    def close(self, *, by_us: bool) -> None:
        """The connection is over. What had no end yet is lost where the server left."""
        open_ones = [request for request in self.requests.values() if not request.terminals]
        if not by_us:
            self._ledger.lost += len(open_ones)
            for request in open_ones:
                self._ledger.breach(f"I1: {request.who} never heard the end of {request.kind} {request.plan}")
        self.requests.clear()
