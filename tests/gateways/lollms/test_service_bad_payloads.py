"""Every event is answered, whatever it carries, and the next one works."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from support.lollms_service import House, Payload, Program, lollms_house
from support.waiting import bounded
from waifu_lollms.payloads import FORMS
from waifu_lollms.service import EVENTS_AT_ONCE

HUGE = "x" * 1_000_000
BAD: dict[str, tuple[object, ...]] = {
    "nothing": (),
    "null": (None,),
    "an empty object": ({},),
    "a list": ([],),
    "a list of things": ([1, "a", None],),
    "a number": (5,),
    "a boolean": (True,),
    "a text": ("no such thing",),
    "a huge text": (HUGE,),
    "half a character": ("\ud800",),
    "bytes": (b"\x00\xff",),
    "nulls": (None, None, None, None),
    "too many": (1, 2, 3, 4, 5, 6, 7),
    "wrong types": ({name: [1] for form in FORMS.values() for name in form.fields},),
    "numbers": ({name: 10**400 for form in FORMS.values() for name in form.fields},),
    "nothing but nulls": ({name: None for form in FORMS.values() for name in form.fields},),
    "odd texts": ({name: "\0../../🦜\n" for form in FORMS.values() for name in form.fields},),
    "paths": ({name: "/etc/passwd" for form in FORMS.values() for name in form.fields},),
    "strangers": ({"": 1, "__class__": {}, "🦜": None, "success": True},),
    "floats": ({name: float("nan") for form in FORMS.values() for name in form.fields},),
}
# What the reply of each event is called, and what it is called where it fails.
REPLIES = {
    "list_available_bindings": ("bindings_list",),
    "list_available_personalities": ("personalities_list",),
    "list_available_models": ("available_models_list",),
    "list_available_personalities_languages": ("available_personalities_languages_list",),
    "list_available_personalities_categories": ("available_personalities_categories_list",),
    "list_available_personalities_names": ("list_available_personalities_names_list",),
    "select_binding": ("select_binding",),
    "select_model": ("select_model",),
    "add_personality": ("personality_add_failed",),
    "activate_personality": ("personality_add_failed", "activate_personality"),
    "list_active_personalities": ("active_personalities_list",),
    "generate_text": ("generation_error", "text_generated"),
    "cancel_generation": ("generation_canceled",),
    "cancel_text_generation": ("generation_canceled",),
    "tokenize": ("tokenized",),
    "detokenize": ("detokenized",),
    "embed": ("embeded",),
    "vectorize_text": ("vectorized_db",),
    "query_database": ("vector_db_query",),
}
ALWAYS_WORK = {"list_available_bindings", "list_available_personalities", "list_available_personalities_languages",
               "list_active_personalities"}  # fmt: skip


@pytest.fixture
async def house(home: Path, installed: Callable[..., None]) -> AsyncIterator[House]:
    installed("echo")
    async with lollms_house(home) as house:
        yield house


def test_every_event_is_looked_at_here() -> None:
    assert REPLIES.keys() == FORMS.keys()


@pytest.mark.parametrize("binding", ["echo", None])
async def test_every_event_answers_every_payload_in_kind(house: House, binding: str | None) -> None:
    program = await house.program()
    if binding:
        await program.select(binding)
    for event in sorted(FORMS):
        for kind, arguments in BAD.items():
            await program.send(event, *arguments)
            while (heard := await program.next())[0] == "notification":
                pass
            first, payload = heard
            expected = REPLIES[event]
            if succeeded(event, first, payload):
                expected = await rest_of_success(program, event, first)
            else:
                assert first == expected[0], (event, kind, first, payload)
                for name in expected[1:]:
                    payload = await program.reply(name)
                if not event.startswith("cancel"):
                    assert payload["error"], (event, kind)
                    assert len(payload["error"]) < 1000, (event, kind)
                    assert "internal" not in payload["error"], (event, kind, payload)
            assert program.nothing_more, (event, kind)
    assert (await program.select("echo"))["success"] is True
    assert await program.generate("still there") == "still there"


def succeeded(event: str, first: str, payload: Payload) -> bool:
    return event in ALWAYS_WORK or payload.get("success") is True or first in ("text_chunk", "personality_added")


async def rest_of_success(program: Program, event: str, first: str) -> tuple[str, ...]:
    """A text or a list can be a good prompt, models can be listed: then to the end of it."""
    if first == "text_chunk":
        await program.generated()
    return (first,)


async def test_an_unknown_event_is_answered(house: House) -> None:
    program = await house.program()
    for event in ("make_coffee", "", "connect", "disconnect", "text_chunk", "\ud800", "x" * 10_000, "__init__"):
        answer = await program.ask(event, {"a": 1}, reply="unknown_event")
        assert answer["success"] is False
        assert answer["error"]
        assert len(answer["error"]) < 500


async def test_a_bug_of_ours_is_logged_and_answered(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("waifu_lollms.listings.bindings", broken)
    monkeypatch.setattr("waifu_lollms.generation.settle", broken)
    program = await house.program()
    await program.select("echo")
    answer = await program.ask("list_available_bindings", reply="bindings_list")
    assert answer == {"success": False, "error": "an internal error: the gateway's log says more"}
    await program.send("generate_text", {"prompt": "Hi", "personality": -1})
    assert "internal error" in (await program.reply("generation_error"))["error"]
    await program.reply("text_generated")
    assert caplog.text.count("ZeroDivisionError: a bug") == 2


async def test_a_program_that_reads_nothing_is_turned_away_and_at_last_held_back(house: House) -> None:
    program, other = await house.program(), await house.program()
    program.reads.clear()
    for _ in range(2 * EVENTS_AT_ONCE):
        await program.send("tokenize")
    held = asyncio.create_task(program.send("tokenize"))
    assert (await other.ask("tokenize", reply="tokenized"))["tokens"] == []
    assert not held.done()
    program.reads.set()
    async with bounded():
        await held
    heard = [(await program.next())[0] for _ in range(3 * EVENTS_AT_ONCE)]
    assert heard.count("tokenized") == EVENTS_AT_ONCE
    assert heard.count("busy") == heard.count("buzzy") == EVENTS_AT_ONCE
    assert await program.reply("tokenized")


async def test_a_program_that_reads_nothing_can_leave_while_it_is_held_back(house: House) -> None:
    program = await house.program()
    program.reads.clear()
    for _ in range(2 * EVENTS_AT_ONCE):
        await program.send("tokenize")
    held = asyncio.create_task(program.send("tokenize"))
    await program.leave()
    async with bounded():
        await held
    assert program.history == []


async def test_the_same_session_id_again_is_a_new_program(house: House) -> None:
    program = await house.program()
    await program.select("echo")
    again = Program(house.service, program.sid)
    await house.service.connected(again.sid, again, "http://localhost:9600")
    assert await again.generate("Hi") == "Hi"
    assert program.nothing_more
