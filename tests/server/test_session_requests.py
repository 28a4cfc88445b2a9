"""A message in, effects out: acknowledgements, terminal messages, which load is meant."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_pool import FakeLoaded, provider_details
from support.talk import PARAMS, USER, Talk, only, sent, spoken, summary

from waifu_client.protocol import ErrorCode
from waifu_llm.errors import Failure
from waifu_llm.session.effects import (
    Disconnect,
    Finished,
    InterruptEverybody,
    ReadModels,
    ReadProviders,
    ReadStats,
    Send,
    SetTimer,
    StartGeneration,
    StartLoad,
    StartUnload,
    StopModule,
)
from waifu_llm.supervision.jobs import Ending, LoadProgress, ModelList
from waifu_worker.wire import ChatMessage, ModelInfo, Usage

BROKEN = Failure(ErrorCode.UNEXPECTED, "it broke", "provider_down", 1500)


@pytest.fixture
def talk() -> Talk:
    return Talk()


# Requests: each gets its acknowledgement before anything else; work that is begun tells nothing in the same turn.


def test_a_load_is_begun_and_acknowledged(talk: Talk) -> None:
    effects = talk.say("load", "1", provider="echo", api_key="k", preload_model_id="m", base_url="http://x")
    assert [type(e) for e in effects] == [StartLoad, Send]
    assert sent(effects) == [{"type": "load_ack", "unique_request_id": "1", "provider": "echo"}]
    fields = only(effects, StartLoad).fields
    assert (fields.provider, fields.api_key, fields.preload_model_id) == ("echo", "k", "m")
    assert fields.fields == {"base_url": "http://x"}


def test_a_loads_timeout_is_armed_at_its_acknowledgement(talk: Talk) -> None:
    effects = talk.say("load", "1", provider="echo", timeout_ms=500)
    assert [type(e) for e in effects] == [SetTimer, StartLoad, Send]
    assert only(effects, SetTimer).at == talk.now + 0.5


def test_a_generate_is_acknowledged_and_then_started_on_the_loaded_provider(talk: Talk) -> None:
    loaded = talk.loaded()
    effects = talk.say("generate", "1", messages=USER, params=PARAMS)
    assert [type(e) for e in effects] == [Send, SetTimer, StartGeneration]
    assert sent(effects) == [{"type": "generate_ack", "unique_request_id": "1"}]
    assert only(effects, StartGeneration).loaded is loaded
    assert only(effects, SetTimer).at == talk.now + 60


@pytest.mark.parametrize("timeout", [None, 0])
def test_no_timer_runs_for_a_generation_without_a_timeout(talk: Talk, timeout: int | None) -> None:
    talk.loaded()
    effects = talk.say("generate", "1", messages=USER, params={**PARAMS, "timeout_ms": timeout})
    assert [type(e) for e in effects] == [Send, StartGeneration]
    assert only(effects, StartGeneration).job.deadline is None


def test_only_what_is_not_streamed_has_a_deadline_beforehand(talk: Talk) -> None:
    talk.loaded()
    assert talk.generation("1", stream=False).job.deadline == talk.now + 60
    assert talk.generation("2", stream=True).job.deadline is None


def test_a_job_holds_what_the_client_said(talk: Talk) -> None:
    talk.loaded()
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "b", "name": "Bob"}]
    params = {"model_id": "m", "stop_tokens": ["x", 5, "", "y"], "top_p": 0.5, "seed": 3, "character_name": "Mia"}
    job = talk.generation("1", messages=messages, params=params, stream=True).job
    assert job.messages == (ChatMessage(role="system", content="a"), ChatMessage(role="user", content="b", name="Bob"))
    assert (job.params.stops, job.params.stop_ids) == (("x", "y"), (5,))
    assert (job.params.top_p, job.params.seed, job.params.character_name) == (0.5, 3, "Mia")
    assert (job.stream, job.prompt, job.params.top_k) == (True, None, None)


def test_raw_text_goes_as_a_prompt(talk: Talk) -> None:
    talk.loaded()
    job = talk.generation("1", messages=[], prompt="Once").job
    assert (job.prompt, job.messages) == ("Once", ())


def test_the_small_requests_ask_for_what_they_need(talk: Talk) -> None:
    talk.loaded()
    assert talk.say("get_providers", "1") == [ReadProviders("1")]
    assert talk.say("get_stats", 2) == [ReadStats(2)]
    assert only(talk.say("get_models", "3"), ReadModels).loaded.provider == "echo"
    assert only(talk.say("unload", "4", provider="echo"), StartUnload).ticket.provider == "echo"


def test_close_is_acknowledged_before_the_module_stops(talk: Talk) -> None:
    effects = talk.say("close", "1")
    assert [type(e) for e in effects] == [Send, StopModule]
    assert sent(effects) == [{"type": "close_ack", "unique_request_id": "1"}]
    assert summary(talk.say("close", "2")) == [("close_ack", "2")]


def test_without_remote_close_only_the_connection_ends_after_its_terminal_messages() -> None:
    talk = Talk(remote_close=False)
    talk.loaded()
    talk.generate("g")
    effects = talk.say("close", "1")
    assert summary(effects) == [("close_ack", "1"), ("generate_stream_done", "g", "INTERRUPT")]
    assert isinstance(effects[-1], Disconnect)
    assert effects[-1].code == 1000


def test_an_integer_id_comes_back_as_an_integer(talk: Talk) -> None:
    talk.loaded()
    assert sent(talk.say("generate", 7, messages=USER, params=PARAMS))[0]["unique_request_id"] == 7
    assert only(talk.say("generate", "7", messages=USER, params=PARAMS), StartGeneration).ticket.request_id == "7"


# What cannot be answered in kind, and what can.


@pytest.mark.parametrize("data", ["", "[]", "5", "{", '{"type": "close"}', b"\xff"])
def test_what_is_no_request_gets_an_error_without_an_id(talk: Talk, data: str | bytes) -> None:
    (reply,) = sent(talk.raw(data))
    assert (reply["type"], reply["unique_request_id"]) == ("error", "")
    assert (reply["is_error"], reply["error"]) == (True, "UNEXPECTED")
    assert reply["message"]


def test_an_unknown_type_gets_an_error_with_its_id(talk: Talk) -> None:
    assert summary(talk.say("nonsense", "1")) == [("error", "1", "UNEXPECTED")]


def test_a_duplicate_id_gets_an_error_and_the_running_request_is_untouched(talk: Talk) -> None:
    talk.loaded()
    ticket = talk.generate("1")
    for again in (
        talk.say("generate", "1", messages=USER, params=PARAMS),
        talk.say("generate", "1"),
        talk.say("load", "1", provider="echo"),
        talk.say("close", "1"),
    ):
        assert summary(again) == [("error", "1", "UNEXPECTED")]
    assert talk.chunks(ticket, "hi") == ["hi"]
    assert summary(talk.session.generation_ended(ticket, Ending())) == [("generate_stream_done", "1", "SUCCESS")]


def test_an_id_may_come_again_after_its_terminal_message(talk: Talk) -> None:
    talk.loaded()
    first = talk.generate("1")
    talk.session.generation_ended(first, Ending())
    second = talk.generate("1")
    assert talk.chunks(first, "late") == []
    assert talk.session.generation_ended(first, Ending()) == []
    assert talk.chunks(second, "hi") == ["hi"]


@pytest.mark.parametrize(
    ("frame", "replies"),
    [
        ({"kind": "load"}, [("load_ack", "x"), ("load_done", "x", "INVALID_PROVIDER")]),
        ({"kind": "load", "provider": 1}, [("load_ack", "x"), ("load_done", "x", "INVALID_PROVIDER")]),
        ({"kind": "load", "provider": "a", "api_key": 1}, [("load_ack", "x"), ("load_done", "x", "AUTHORIZATION")]),
        (
            {"kind": "load", "provider": "a", "preload_model_id": 1},
            [("load_ack", "x"), ("load_done", "x", "INVALID_MODEL")],
        ),
        ({"kind": "load", "provider": "a", "progress": 1}, [("load_ack", "x"), ("load_done", "x", "UNEXPECTED")]),
        ({"kind": "generate"}, [("generate_ack", "x"), ("generate_done", "x", "INVALID_MODEL")]),
        (
            {"kind": "generate", "stream": True, "params": {}},
            [("generate_ack", "x"), ("generate_stream_done", "x", "INVALID_MODEL")],
        ),
        (
            {"kind": "generate", "stream": "yes", "params": PARAMS, "messages": USER},
            [("generate_ack", "x"), ("generate_done", "x", "INVALID_PROMPT")],
        ),
        (
            {"kind": "generate", "params": PARAMS, "messages": []},
            [("generate_ack", "x"), ("generate_done", "x", "INVALID_PROMPT")],
        ),
        ({"kind": "interrupt", "scope": 1}, [("interrupt_ack", "x")]),
        ({"kind": "get_models", "provider": 1}, [("get_models_done", "x", "INVALID_PROVIDER")]),
        ({"kind": "unload"}, [("unload_done", "x", "INVALID_PROVIDER")]),
    ],
)
def test_a_wrong_field_is_answered_in_kind(talk: Talk, frame: dict[str, Any], replies: list[tuple[str, ...]]) -> None:
    effects = talk.say(**frame)
    assert summary(effects) == replies
    assert len(effects) == len(replies)
    for reply in sent(effects):
        if reply.get("is_error"):
            assert reply["message"]
    # The request is over: its id is free again.
    assert summary(talk.say(**frame)) == replies


def test_the_bodies_of_refusals_are_complete(talk: Talk) -> None:
    load, generate = sent(talk.say("load", "x", provider=[])), sent(talk.say("generate", "x"))
    assert load[0]["provider"] == load[1]["provider"] == ""
    assert sent(talk.say("load", "x", provider="a", api_key=1))[1]["provider"] == "a"
    assert generate[1]["response"] == ""
    assert sent(talk.say("interrupt", "x", scope=1))[0]["interrupted"] == []
    models = sent(talk.say("get_models", "x", provider=1))[0]
    assert (models["models"], models["providers"], models["is_error"]) == ([], [], True)
    assert sent(talk.say("unload", "x"))[0]["provider"] == ""


# Which load a request means.


@pytest.mark.parametrize("kind", ["generate", "get_models"])
def test_with_nothing_loaded_there_is_no_provider(talk: Talk, kind: str) -> None:
    (*_, done) = sent(talk.say(kind, "1", messages=USER, params=PARAMS))
    assert (done["type"], done["error"]) == (f"{kind}_done", "INVALID_PROVIDER")
    assert "load" in done["message"]


@pytest.mark.parametrize("name", [None, "echo"])
def test_a_load_that_is_still_running_is_said(talk: Talk, name: str | None) -> None:
    talk.load(provider="echo")
    (*_, done) = sent(talk.say("generate", "1", messages=USER, params=PARAMS, provider=name))
    assert done["error"] == "INVALID_PROVIDER"
    assert "a load is still running" in done["message"]


def test_another_providers_running_load_is_no_excuse(talk: Talk) -> None:
    talk.load(provider="echo")
    (*_, done) = sent(talk.say("generate", "1", messages=USER, params=PARAMS, provider="openai"))
    assert "still running" not in done["message"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("groq", "'groq'"),
        ("x" * 10_000, f"'{'x' * 64}'"),
        ("\n\u202e", "'\\n\\u202e'"),
        ("\0" * 64, "'" + "\\x00" * 19 + "\\x0"),
    ],
)
def test_who_names_what_is_not_loaded_is_told_its_name_and_no_more_of_it(talk: Talk, name: str, told: str) -> None:
    talk.loaded("echo")
    (*_, done) = sent(talk.say("generate", "1", messages=USER, params=PARAMS, provider=name))
    assert done["message"] == f"{told} is not loaded on this connection; send a load first"
    (done,) = sent(talk.say("get_models", "2", provider=name))
    assert done["message"] == f"{told} is not loaded on this connection; send a load first"


def test_the_load_whose_request_came_last_is_meant_however_they_end(talk: Talk) -> None:
    first, second, third = (talk.load(i, name) for i, name in (("1", "a"), ("2", "b"), ("3", "c")))
    talk.session.load_succeeded(second, FakeLoaded("b"))
    talk.session.load_succeeded(first, FakeLoaded("a"))
    talk.session.failed(third, BROKEN)
    assert talk.generation("g").loaded.provider == "b"
    assert talk.generation("h", provider="a").loaded.provider == "a"
    assert summary(talk.say("generate", "i", messages=USER, params=PARAMS, provider="c"))[1][2] == "INVALID_PROVIDER"


def test_the_newer_of_two_loads_of_one_provider_answers_its_name(talk: Talk) -> None:
    older, newer = talk.load("1", "a", api_key="old"), talk.load("2", "a", api_key="new")
    new = FakeLoaded("a", api_key="new")
    talk.session.load_succeeded(newer, new)
    talk.session.load_succeeded(older, FakeLoaded("a", api_key="old"))
    assert talk.generation("g", provider="a").loaded is new
    newest = talk.loaded("a", "3", api_key="newest")
    assert talk.generation("h").loaded is newest


def test_a_connection_without_a_load_uses_the_shared_one(talk: Talk) -> None:
    talk.shared = FakeLoaded("echo")
    assert talk.generation("1").loaded is talk.shared
    assert talk.generation("2", provider="echo").loaded is talk.shared
    assert summary(talk.say("generate", "3", messages=USER, params=PARAMS, provider="x"))[1][2] == "INVALID_PROVIDER"
    talk.session.failed(talk.load("l"), BROKEN)
    assert talk.generation("4").loaded is talk.shared
    own = talk.loaded("openai")
    assert talk.generation("5").loaded is own
    assert summary(talk.say("generate", "6", messages=USER, params=PARAMS, provider="echo"))[1][2] == "INVALID_PROVIDER"


def test_a_generation_stays_with_the_load_it_began_with(talk: Talk) -> None:
    talk.loaded("a", "1")
    ticket = talk.generate("g")
    talk.loaded("b", "2")
    assert (ticket.provider, talk.chunks(ticket, "x")) == ("a", ["x"])


# What becomes of requests.


def test_load_done_says_how_it_went(talk: Talk) -> None:
    effects = talk.session.load_succeeded(talk.load("1"), FakeLoaded("echo", warning="mind the gap"))
    assert [type(e) for e in effects] == [Finished, Send]
    assert sent(effects) == [
        {
            "type": "load_done",
            "unique_request_id": "1",
            "is_error": False,
            "error": "SUCCESS",
            "provider": "echo",
            "warning": "mind the gap",
        }
    ]
    assert sent(talk.session.failed(talk.load("2"), BROKEN)) == [
        {
            "type": "load_done",
            "unique_request_id": "2",
            "is_error": True,
            "error": "UNEXPECTED",
            "message": "it broke",
            "reason": "provider_down",
            "retry_after_ms": 1500,
            "provider": "echo",
        }
    ]


def test_progress_is_told_only_where_it_was_asked_for_and_only_before_the_end(talk: Talk) -> None:
    asked, silent = talk.load("1", progress=True), talk.load("2")
    progress = LoadProgress("environment", "downloading", None)
    assert talk.session.load_progress(silent, progress) is None
    assert spoken(talk.session.load_progress(asked, progress)) == {
        "type": "load_progress",
        "unique_request_id": "1",
        "stage": "environment",
        "detail": "downloading",
        "fraction": None,
    }
    talk.session.load_succeeded(asked, FakeLoaded("echo"))
    assert talk.session.load_progress(asked, progress) is None


ENDING = Ending(
    usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3), finish_reason="stop", ignored=("top_k",)
)
EXTRAS = {
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    "finish_reason": "stop",
    "ignored": ["top_k"],
}


def test_a_stream_is_chunks_and_a_terminal_message_without_text(talk: Talk) -> None:
    talk.loaded()
    ticket = talk.generate("1", stream=True)
    assert talk.chunks(ticket, "sk-notakeybuttext", "more") == ["sk-notakeybuttext", "more"]
    assert ticket.chunks == 2
    done = {"type": "generate_stream_done", "unique_request_id": "1", "is_error": False, "error": "SUCCESS"}
    assert sent(talk.session.generation_ended(ticket, ENDING)) == [done | EXTRAS]
    assert talk.chunks(ticket, "late") == []
    assert talk.session.generation_ended(ticket, ENDING) == []


def test_without_streaming_the_text_is_collected_into_the_response(talk: Talk) -> None:
    talk.loaded()
    ticket = talk.generate("1", stream=False)
    assert [talk.chunks(ticket, *texts) for texts in (("one ", "t"), ("wo",))] == [[], []]
    done = {"type": "generate_done", "unique_request_id": "1", "is_error": False, "error": "SUCCESS"}
    assert sent(talk.session.generation_ended(ticket, ENDING)) == [done | EXTRAS | {"response": "one two"}]


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_without_text_is_a_success(talk: Talk, stream: bool) -> None:
    talk.loaded()
    (done,) = sent(talk.session.generation_ended(talk.generate("1", stream=stream), Ending()))
    assert (done["is_error"], done.get("response", "")) == (False, "")
    assert "usage" not in done
    assert "ignored" not in done


def test_the_response_is_empty_where_a_generation_failed(talk: Talk) -> None:
    talk.loaded()
    ticket = talk.generate("1", stream=False)
    talk.chunks(ticket, "half an ans")
    (done,) = sent(talk.session.generation_ended(ticket, Ending(failure=BROKEN)))
    assert (done["type"], done["response"], done["error"]) == ("generate_done", "", "UNEXPECTED")
    assert (done["message"], done["reason"], done["retry_after_ms"]) == ("it broke", "provider_down", 1500)


def test_a_generation_that_the_pool_refuses_ends_with_its_words(talk: Talk) -> None:
    talk.loaded()
    ticket = talk.generate("1")
    assert summary(talk.session.failed(ticket, BROKEN)) == [("generate_stream_done", "1", "UNEXPECTED")]
    assert talk.session.failed(ticket, BROKEN) == []


def test_models_are_listed_twice_with_what_is_known_of_them(talk: Talk) -> None:
    talk.loaded()
    models = ModelList([ModelInfo(id="b", kind="chat", context=8), ModelInfo(id="a", owner="me", size_bytes=1)], "old")
    ticket = talk.models("1")
    assert sent(talk.session.models_read(ticket, models)) == [
        {
            "type": "get_models_done",
            "unique_request_id": "1",
            "is_error": False,
            "error": "SUCCESS",
            "models": ["b", "a"],
            "providers": ["b", "a"],
            "warning": "old",
            "details": {
                "b": {"kind": "chat", "owner": None, "size_bytes": None, "context": 8},
                "a": {"kind": None, "owner": "me", "size_bytes": 1, "context": None},
            },
        }
    ]
    assert talk.session.models_read(ticket, models) == []
    assert summary(talk.session.failed(talk.models("2"), BROKEN)) == [("get_models_done", "2", "UNEXPECTED")]


def test_an_unload_is_answered_with_its_provider(talk: Talk) -> None:
    ticket = talk.unload("1")
    (done,) = sent(talk.session.unloaded(ticket))
    assert (done["type"], done["provider"], done["error"]) == ("unload_done", "echo", "SUCCESS")
    assert talk.session.unloaded(ticket) == []
    failure = Failure(ErrorCode.INVALID_PROVIDER, "no such provider")
    assert summary(talk.session.failed(talk.unload("2"), failure)) == [("unload_done", "2", "INVALID_PROVIDER")]


def test_providers_are_listed_sorted_with_details_and_the_protocols_version(talk: Talk) -> None:
    details = {name: provider_details(name) for name in ("openai", "echo")}
    (reply,) = sent(talk.session.providers_read("1", details))
    assert (reply["type"], reply["providers"], reply["protocol_version"]) == (
        "get_providers_done",
        ["echo", "openai"],
        1,
    )
    assert list(reply["details"]) == ["echo", "openai"]
    assert reply["details"]["openai"]["needs_api_key"] is True
    assert reply["details"]["echo"]["options"] == {
        "base_url": {"type": "string", "help": "where the API is"},
    }


def test_a_request_without_an_error_of_its_own_can_still_be_answered(talk: Talk) -> None:
    assert summary(talk.session.cannot_answer("1", BROKEN)) == [("error", "1", "UNEXPECTED")]


def test_an_interrupt_of_everybody_is_asked_for_and_then_acknowledged(talk: Talk) -> None:
    assert talk.say("interrupt", "1", scope="all") == [InterruptEverybody("1")]
    assert sent(talk.session.everybody_interrupted("1", ["a", 2])) == [
        {"type": "interrupt_ack", "unique_request_id": "1", "interrupted": ["a", 2]}
    ]


# What leaves of keys, and how much may be asked for.


def test_no_sentence_of_ours_holds_a_key_and_the_models_text_is_untouched(talk: Talk, canary: str) -> None:
    talk.redactor.add(canary)
    talk.loaded()
    leaks = Failure(ErrorCode.UNEXPECTED, f"bad key {canary}", None, None)
    effects = talk.session.failed(talk.load("1"), leaks)
    effects += talk.session.load_succeeded(talk.load("2"), FakeLoaded("echo", warning=f"used {canary}"))
    effects += talk.session.failed(talk.models("3"), leaks)
    effects += talk.session.models_read(talk.models("4"), ModelList([], f"old {canary}"))
    effects += talk.session.failed(talk.unload("5"), leaks)
    effects += talk.session.generation_ended(talk.generate("6"), Ending(failure=leaks))
    effects += talk.session.cannot_answer("7", leaks)
    effects += talk.say(canary, "8")
    assert len(sent(effects)) == 8
    assert canary not in str(sent(effects))
    progress = talk.session.load_progress(talk.load("9", progress=True), LoadProgress("worker", canary, 0.5))
    assert canary not in str(spoken(progress))
    assert talk.chunks(talk.generate("10"), canary) == [canary]


def test_a_sentence_is_never_longer_than_a_thousand_characters(talk: Talk) -> None:
    (done,) = sent(talk.session.failed(talk.load("1"), Failure(ErrorCode.UNEXPECTED, "x" * 5000)))
    assert len(done["message"]) == 1000


def test_a_connection_has_a_limit_for_what_is_no_generation(talk: Talk) -> None:
    talk.loaded()
    tickets = [talk.load(i) for i in range(1024)]
    for kind, fields in (("load", {"provider": "echo"}), ("get_models", {}), ("unload", {"provider": "echo"})):
        (*_, done) = sent(talk.say(kind, "more", **fields))
        assert (done["error"], done["reason"]) == ("UNEXPECTED", "busy")
    assert talk.generate("g") is not None
    talk.session.failed(tickets[0], BROKEN)
    assert talk.load("more") is not None


KINDS = ["load", "generate", "interrupt", "close", "get_providers", "get_models", "unload", "get_stats", "nonsense"]


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.tuples(st.sampled_from(KINDS), st.sampled_from(["a", "b", 1]), st.booleans()),
        ),
        max_size=12,
    )
)
def test_whatever_comes_each_readable_id_is_acknowledged_at_most_once_and_answered(script: list[Any]) -> None:
    talk = Talk()
    talk.shared = FakeLoaded("echo")
    for frame in script:
        if isinstance(frame, bytes):
            assert summary(talk.raw(frame)) == [("error", "", "UNEXPECTED")]
            continue
        kind, request_id, good = frame
        fields = {"provider": "echo", "params": PARAMS, "messages": USER} if good else {"provider": 1, "scope": 1}
        effects = talk.say(kind, request_id, **fields)
        assert effects
        assert all(reply["unique_request_id"] == request_id for reply in sent(effects)[:1])
        acks = [reply for reply in sent(effects) if reply["type"].endswith("_ack")]
        assert len(acks) <= 1


def test_an_error_with_bytes_of_a_path_that_are_no_text_reaches_the_client() -> None:
    talk = Talk()
    ticket = talk.load("l")
    (done,) = sent(talk.session.failed(ticket, Failure(ErrorCode.UNEXPECTED, "cannot write /home/\udcff/log")))
    assert done["message"] == "cannot write /home/?/log"
