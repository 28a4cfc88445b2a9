"""Interrupts, timeouts, closing, disconnecting: every order of two ends gives exactly one terminal message."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from support.fake_pool import FakeLoaded
from support.talk import PARAMS, USER, Talk, only, sent, summary

from waifu_client.protocol import ErrorCode
from waifu_llm.errors import Failure
from waifu_llm.session import GenerationTicket
from waifu_llm.session.effects import Effect, Finished, Send, SetTimer
from waifu_llm.supervision.jobs import Ending

BROKEN = Failure(ErrorCode.UNEXPECTED, "it broke")


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.loaded()
    return talk


def cancelled(effects: list[Effect]) -> list[Any]:
    return [e.ticket.request_id for e in effects if isinstance(e, Finished) and e.cancel]


# Interrupt.


def test_an_interrupt_stops_the_connections_generations_and_no_load(talk: Talk) -> None:
    talk.load("l")
    talk.generate("1", stream=True)
    talk.generate(2, stream=False)
    effects = talk.say("interrupt", "i")
    assert summary(effects) == [
        ("interrupt_ack", "i"),
        ("generate_stream_done", "1", "INTERRUPT"),
        ("generate_done", 2, "INTERRUPT"),
    ]
    assert sent(effects)[0]["interrupted"] == ["1", 2]
    assert cancelled(effects) == ["1", 2]
    assert isinstance(effects[0], Send)


def test_an_interrupt_with_nothing_to_stop_is_acknowledged(talk: Talk) -> None:
    assert sent(talk.say("interrupt", "i")) == [
        {"type": "interrupt_ack", "unique_request_id": "i", "interrupted": []},
    ]


def test_after_the_acknowledgement_no_chunk_follows(talk: Talk) -> None:
    ticket = talk.generate("1")
    assert talk.chunks(ticket, "a") == ["a"]
    talk.say("interrupt", "i")
    assert talk.chunks(ticket, "b") == []
    assert talk.session.generation_ended(ticket, Ending()) == []


def test_what_is_read_after_an_interrupt_is_not_stopped_by_it(talk: Talk) -> None:
    talk.say("interrupt", "i")
    assert talk.chunks(talk.generate("1"), "a") == ["a"]


def test_a_target_is_stopped_alone(talk: Talk) -> None:
    talk.generate("1")
    talk.generate("2")
    effects = talk.say("interrupt", "i", target_request_id="2", scope="all")
    assert summary(effects) == [("interrupt_ack", "i"), ("generate_stream_done", "2", "INTERRUPT")]


def test_a_load_is_stopped_by_its_id(talk: Talk) -> None:
    ticket = talk.load("l", "openai")
    effects = talk.say("interrupt", "i", target_request_id="l")
    assert summary(effects) == [("interrupt_ack", "i"), ("load_done", "l", "INTERRUPT")]
    assert cancelled(effects) == ["l"]
    assert talk.session.load_succeeded(ticket, FakeLoaded("openai")) == []
    assert talk.generation("g").loaded.provider == "echo"


@pytest.mark.parametrize("target", ["nobody", 1, "m", "u"])
def test_an_unknown_target_or_one_that_cannot_be_stopped_stops_nothing(talk: Talk, target: str | int) -> None:
    talk.generate("1")
    talk.models("m")
    talk.unload("u")
    effects = talk.say("interrupt", "i", target_request_id=target)
    assert sent(effects) == [{"type": "interrupt_ack", "unique_request_id": "i", "interrupted": []}]


def test_an_interrupted_response_is_empty(talk: Talk) -> None:
    ticket = talk.generate("1", stream=False)
    talk.chunks(ticket, "half")
    (_, done) = sent(talk.say("interrupt", "i"))
    assert done["response"] == ""
    assert done["message"]


# Timeout.


def test_a_whole_generation_is_bounded_where_it_is_not_streamed(talk: Talk) -> None:
    ticket = talk.generate("1", stream=False)
    talk.now += 59
    talk.chunks(ticket, "a")
    talk.now += 1
    effects = talk.session.timer_expired(ticket)
    assert summary(effects) == [("generate_done", "1", "TIMEOUT")]
    assert cancelled(effects) == ["1"]


def test_each_piece_of_a_stream_starts_its_timeout_again_without_a_new_timer(talk: Talk) -> None:
    ticket = talk.generate("1", stream=True)
    talk.now += 59
    talk.chunks(ticket, "a")
    talk.now += 1
    assert talk.session.timer_expired(ticket) == [SetTimer(ticket, talk.now + 59)]
    talk.now += 59
    assert summary(talk.session.timer_expired(ticket)) == [("generate_stream_done", "1", "TIMEOUT")]
    assert talk.session.timer_expired(ticket) == []


def test_a_load_that_takes_longer_than_its_timeout_ends_with_it(talk: Talk) -> None:
    ticket = talk.load("l", timeout_ms=100)
    effects = talk.session.timer_expired(ticket)
    assert summary(effects) == [("load_done", "l", "TIMEOUT")]
    assert cancelled(effects) == ["l"]
    assert "100" in sent(effects)[0]["message"]


def test_a_timer_without_a_timeout_means_nothing(talk: Talk) -> None:
    assert talk.session.timer_expired(talk.load("l")) == []


# Closing and disconnecting.


def test_closing_tells_everything_that_runs_and_lets_nothing_begin(talk: Talk) -> None:
    talk.generate("1")
    talk.generate("2", stream=False)
    talk.load("l")
    talk.models("m")
    talk.unload("u")
    effects = talk.session.closing()
    assert summary(effects) == [
        ("generate_stream_done", "1", "INTERRUPT"),
        ("generate_done", "2", "INTERRUPT"),
        ("load_done", "l", "INTERRUPT"),
        ("get_models_done", "m", "INTERRUPT"),
        ("unload_done", "u", "INTERRUPT"),
    ]
    assert {reply["reason"] for reply in sent(effects)} == {"closing"}
    assert cancelled(effects) == ["1", "2", "l", "m", "u"]
    assert talk.session.closing() == []
    for kind in ("generate", "load", "get_models", "unload"):
        (*_, done) = sent(talk.say(kind, "x", provider="echo", messages=USER, params=PARAMS))
        assert (done["error"], done["reason"]) == ("INTERRUPT", "closing")
    assert summary(talk.say("close", "c")) == [("close_ack", "c")]
    assert summary(talk.say("interrupt", "i")) == [("interrupt_ack", "i")]


def test_a_disconnect_ends_everything_unheard(talk: Talk) -> None:
    talk.generate("1")
    talk.load("l")
    effects = talk.session.disconnected()
    assert cancelled(effects) == ["1", "l"]
    assert sent(effects) == []
    assert talk.session.disconnected() == []


# Races.

End = Callable[[Talk, GenerationTicket], list[Effect]]


def _complete(talk: Talk, ticket: GenerationTicket) -> list[Effect]:
    return talk.session.generation_ended(ticket, Ending())


def _fail(talk: Talk, ticket: GenerationTicket) -> list[Effect]:
    return talk.session.generation_ended(ticket, Ending(failure=BROKEN))


def _interrupt(talk: Talk, ticket: GenerationTicket) -> list[Effect]:
    return talk.say("interrupt", "i", target_request_id=ticket.request_id)


def _interrupt_everybody(talk: Talk, _: GenerationTicket) -> list[Effect]:
    return talk.session.interrupt_generations()[1]


def _expire(talk: Talk, ticket: GenerationTicket) -> list[Effect]:
    talk.now += 60
    return talk.session.timer_expired(ticket)


def _close(talk: Talk, _: GenerationTicket) -> list[Effect]:
    return talk.session.closing()


def _disconnect(talk: Talk, _: GenerationTicket) -> list[Effect]:
    return talk.session.disconnected()


ENDS: dict[str, tuple[End, str | None]] = {
    "completion": (_complete, "SUCCESS"),
    "failure": (_fail, "UNEXPECTED"),
    "interrupt": (_interrupt, "INTERRUPT"),
    "everybody": (_interrupt_everybody, "INTERRUPT"),
    "timeout": (_expire, "TIMEOUT"),
    "closing": (_close, "INTERRUPT"),
    "disconnect": (_disconnect, None),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("order", list(itertools.permutations(ENDS, 3)), ids="-".join)
def test_the_first_of_several_ends_wins_and_the_others_are_silent(
    talk: Talk, order: tuple[str, ...], stream: bool
) -> None:
    ticket = talk.generate("1", stream=stream)
    effects = [effect for name in order for effect in ENDS[name][0](talk, ticket)]
    wanted = ENDS[order[0]][1]
    done = [reply["error"] for reply in sent(effects) if reply["unique_request_id"] == "1"]
    assert done == ([] if wanted is None else [wanted])
    assert [e.code for e in effects if isinstance(e, Finished)] == [wanted or "INTERRUPT"]
    # A generation that ended by itself is not cancelled; one that was stopped is, once.
    assert cancelled(effects) == ([] if order[0] in ("completion", "failure") else ["1"])
    acks = [reply for reply in sent(effects) if reply["type"] == "interrupt_ack"]
    assert len(acks) == order.count("interrupt")
    assert talk.chunks(ticket, "late") == []


def test_what_a_generation_took_is_measured_from_its_acknowledgement(talk: Talk) -> None:
    ticket = talk.generate("1")
    talk.now += 1
    talk.chunks(ticket, "a")
    talk.now += 1
    talk.chunks(ticket, "b")
    talk.now += 1
    finished = only(talk.session.generation_ended(ticket, Ending()), Finished)
    assert finished == Finished(ticket, ErrorCode.SUCCESS, cancel=False)
    assert (ticket.first_chunk_s, ticket.total_s, ticket.chunks) == (1, 3, 2)
