"""The session against a model of PROTOCOL.md's rules, in every order that hypothesis finds."""

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.fake_pool import FakeLoaded
from support.talk import PARAMS, USER, Talk, sent

from waifu_client.protocol import ErrorCode
from waifu_llm.errors import Failure
from waifu_llm.session import GenerationTicket, LoadTicket
from waifu_llm.session.effects import Effect, Finished, StartGeneration, StartLoad
from waifu_llm.supervision.jobs import Ending

IDS = st.sampled_from(["a", "b", "c", 1])
NAMES = st.sampled_from(["echo", "openai"])
PICK = st.integers(0, 99)
BROKEN = Failure(ErrorCode.UNEXPECTED, "it broke")


class SessionModel(RuleBasedStateMachine):
    """`running` and `loads` are what the rules say; each request's replies are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.talk = Talk()
        self.tickets: list[GenerationTicket | LoadTicket] = []
        self.running: dict[str | int, GenerationTicket | LoadTicket] = {}
        self.loads: dict[str, int] = {}
        self.last_load = 0
        self.open: Counter[str | int] = Counter()
        self.closed = False

    def heard(self, effects: list[Effect]) -> list[dict[str, Any]]:
        """Each reply must have something to answer; a terminal message uses it up."""
        replies = sent(effects)
        for reply in replies:
            if reply["type"].endswith("_done"):
                self.open[reply["unique_request_id"]] -= 1
                self.running.pop(reply["unique_request_id"], None)
        for effect in effects:
            if isinstance(effect, Finished):
                assert effect.ticket.done
        return replies

    def ask(self, kind: str, request_id: str | int, **fields: Any) -> list[Effect]:
        taken = request_id in self.running
        effects = self.talk.say(kind, request_id, **fields)
        if taken:
            (reply,) = sent(effects)
            assert (reply["type"], reply["error"]) == ("error", "UNEXPECTED")
            return []
        assert sent(effects)[0]["type"] == f"{kind}_ack"
        self.open[request_id] += 1
        return effects

    def started(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, StartGeneration | StartLoad):
                self.tickets.append(effect.ticket)
                self.running[effect.ticket.request_id] = effect.ticket

    @rule(request_id=IDS, name=NAMES)
    def load(self, request_id: str | int, name: str) -> None:
        effects = self.ask("load", request_id, provider=name)
        self.started(effects)
        self.heard(effects)

    @rule(request_id=IDS, name=st.none() | NAMES, stream=st.booleans())
    def generate(self, request_id: str | int, name: str | None, stream: bool) -> None:
        effects = self.ask("generate", request_id, provider=name, messages=USER, params=PARAMS, stream=stream)
        self.started(effects)
        replies = self.heard(effects)
        if not replies:
            return
        wanted = max(self.loads, key=lambda n: self.loads[n], default=None) if name is None else name
        if self.closed:
            assert replies[-1]["reason"] == "closing"
        elif wanted in self.loads:
            assert self.tickets[-1].provider == wanted
            assert not self.tickets[-1].done
        else:
            assert replies[-1]["error"] == "INVALID_PROVIDER"

    @precondition(lambda self: self.tickets)
    @rule(pick=PICK, good=st.booleans())
    def end(self, pick: int, good: bool) -> None:
        """Also of what ended long ago: what comes late is not heard."""
        ticket = self.tickets[pick % len(self.tickets)]
        was_done = ticket.done
        if isinstance(ticket, LoadTicket):
            if good:
                effects = self.talk.session.load_succeeded(ticket, FakeLoaded(ticket.provider))
                if not was_done:
                    self.loads[ticket.provider] = max(self.loads.get(ticket.provider, 0), ticket.order)
            else:
                effects = self.talk.session.failed(ticket, BROKEN)
        else:
            effects = self.talk.session.generation_ended(ticket, Ending(failure=None if good else BROKEN))
        assert bool(self.heard(effects)) is not was_done

    @precondition(lambda self: self.tickets)
    @rule(pick=PICK)
    def chunk(self, pick: int) -> None:
        ticket = self.tickets[pick % len(self.tickets)]
        if isinstance(ticket, GenerationTicket):
            sent = self.talk.chunks(ticket, "x")
            assert sent == (["x"] if ticket.stream and not ticket.done else [])

    @precondition(lambda self: self.tickets)
    @rule(pick=PICK, later=st.sampled_from([0.0, 30.0, 60.0]))
    def expire(self, pick: int, later: float) -> None:
        self.talk.now += later
        self.heard(self.talk.session.timer_expired(self.tickets[pick % len(self.tickets)]))

    @rule(which=st.none() | IDS)
    def interrupt(self, which: str | int | None) -> None:
        if "i" in self.running:
            return
        stoppable = {
            request_id
            for request_id, ticket in self.running.items()
            if request_id == which or (which is None and isinstance(ticket, GenerationTicket))
        }
        ack, *dones = self.heard(self.talk.say("interrupt", "i", target_request_id=which))
        assert set(ack["interrupted"]) == stoppable == {done["unique_request_id"] for done in dones}

    @rule()
    def close(self) -> None:
        self.heard(self.talk.session.closing())
        self.closed = True

    @invariant()
    def each_request_that_is_not_running_was_answered_once(self) -> None:
        for request_id, count in self.open.items():
            assert count == (1 if request_id in self.running else 0)


TestSessionModel = SessionModel.TestCase
TestSessionModel.settings = settings(max_examples=300, stateful_step_count=50)
