"""Selecting, generating and cancelling, as one program sees it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from support.lollms_service import House, lollms_house, write_personality


@pytest.fixture
async def house(home: Path, installed: Callable[..., None]) -> AsyncIterator[House]:
    installed("echo")
    async with lollms_house(home) as house:
        yield house


async def test_bindings_are_the_modules_providers(house: House) -> None:
    program = await house.program()
    listed = await program.ask("list_available_bindings", reply="bindings_list")
    assert listed["success"] is True
    assert listed["binding_name"] == ""
    by_name = {entry["name"]: entry for entry in listed["bindings"]}
    assert by_name["echo"]["card"] == {
        "name": "echo",
        "title": "Echo",
        "author": by_name["echo"]["card"]["author"],
        "version": by_name["echo"]["card"]["version"],
        "description": by_name["echo"]["card"]["description"],
        "link": by_name["echo"]["card"]["link"],
        "category": "local",
        "installed": True,
        "size_bytes": by_name["echo"]["card"]["size_bytes"],
    }
    assert by_name["openai"]["card"]["installed"] is False
    assert by_name["echo"]["models"] == []


async def test_a_selected_binding_answers(house: House) -> None:
    program = await house.program()
    assert await program.select("echo") == {"success": True, "binding_name": "echo", "model_name": "echo"}
    assert await program.generate("one two three") == "one two three"


async def test_a_cancel_stops_a_raw_generation_and_is_the_last_word(house: House) -> None:
    program = await house.program()
    await program.select("echo")
    await program.ask("select_model", {"model_name": "echo-slow"})
    await program.send("generate_text", {"prompt": "word " * 1000, "personality": -1})
    chunk = await program.reply("text_chunk")
    await program.send("cancel_generation")
    canceled = await program.after("text_chunk", "generation_canceled")
    assert canceled["request_id"] == chunk["request_id"]
    assert canceled["text"].startswith("word ")
    assert program.nothing_more
    assert await house.counts("echo") == {"INTERRUPT": 1}


async def test_everything_that_can_be_listed_is(house: House) -> None:
    program = await house.program()
    assert await program.ask("list_available_models", reply="available_models_list") == {
        "success": False,
        "error": "Please select a binding first",
    }
    await program.select("echo")
    models = await program.ask("list_available_models", reply="available_models_list")
    assert models["success"] is True
    assert models["model_name"] == "echo"
    assert [each["title"] for each in models["available_models"]] == ["echo", "echo-slow", "lorem"]
    listed = await program.ask("list_available_bindings", reply="bindings_list")
    assert listed["binding_name"] == "echo"
    assert {entry["name"]: entry["models"] for entry in listed["bindings"]}["echo"] == ["echo", "echo-slow", "lorem"]
    languages = "available_personalities_languages"
    assert await program.ask(f"list_{languages}", reply=f"{languages}_list") == {
        "success": True,
        languages: ["english"],
    }
    categories = "available_personalities_categories"
    assert await program.ask(f"list_{categories}", {"language": "english"}, reply=f"{categories}_list") == {
        "success": True,
        categories: ["fun", "generic"],
    }
    names = "list_available_personalities_names"
    assert await program.ask(names, "english", "fun", reply=f"{names}_list") == {"success": True, names: ["pirate"]}
    personalities = await program.ask("list_available_personalities", reply="personalities_list")
    assert personalities["success"] is True
    assert personalities["errors"] == []
    (pirate,) = personalities["personalities"]["english"]["fun"]
    assert (pirate["folder"], pirate["name"], pirate["avatar"]) == ("pirate", 'Pirate "Ann"', "")
    assert program.nothing_more


async def test_a_broken_personality_is_one_entry_of_the_errors(house: House) -> None:
    write_personality(house.personalities, "english/fun/broken", "name: [")
    program = await house.program()
    listed = await program.ask("list_available_personalities", reply="personalities_list")
    assert [each["folder"] for each in listed["personalities"]["english"]["fun"]] == ["pirate"]
    (broken,) = listed["errors"]
    assert broken["path"] == "english/fun/broken"
    assert broken["error"]


async def test_personalities_are_mounted_and_activated(house: House) -> None:
    program = await house.program()
    added = {"success": True, "name": 'Pirate "Ann"', "id": 1, "welcome_message": ""}
    for path in ("english/fun/pirate", "fun/pirate", str(house.personalities / "english" / "fun" / "pirate")):
        assert await program.ask("add_personality", {"path": path}, reply="personality_added") == added
    mounted = await program.ask("list_active_personalities", reply="active_personalities_list")
    assert mounted == {"success": True, "personalities": ["lollms", 'Pirate "Ann"'], "active_personality_id": 0}
    activated = {"success": True, "name": 'Pirate "Ann"', "id": 1}
    for asked in (
        {"id": 1},
        {"id": "1"},
        {"personality_name": 'Pirate "Ann"'},
        {"personality_name": "english/fun/pirate"},
    ):
        assert await program.ask("activate_personality", asked) == activated
    mounted = await program.ask("list_active_personalities", reply="active_personalities_list")
    assert mounted["active_personality_id"] == 1
    assert "active_personality_id: 1" in house.state.read_text("utf-8")
    assert "english/fun/pirate" in house.state.read_text("utf-8")


@pytest.mark.parametrize(
    "asked", [{}, {"id": 7}, {"id": -1}, {"id": "x"}, {"id": True}, {"id": None}, {"personality_name": "nobody"}]
)
async def test_an_activation_that_fails_says_so_in_both_forms(house: House, asked: dict[str, object]) -> None:
    program = await house.program()
    failed = {"success": False, "error": "Personality ID not valid"}
    assert await program.ask("activate_personality", asked, reply="personality_add_failed") == failed
    assert await program.reply("activate_personality") == failed
    assert program.nothing_more


async def test_a_mounted_personality_that_breaks_keeps_its_place(house: House) -> None:
    program = await house.program()
    await program.select("echo")
    await program.ask("add_personality", {"path": "fun/pirate"}, reply="personality_added")
    write_personality(house.personalities, "english/generic/lollms", "name: [")
    mounted = await program.ask("list_active_personalities", reply="active_personalities_list")
    assert mounted["personalities"] == ["lollms", 'Pirate "Ann"']
    await program.send("generate_text", {"prompt": "Hi", "personality": 0})
    assert "broken" in (await program.reply("generation_error"))["error"]
    assert (await program.reply("text_generated"))["text"] == ""
    failed = await program.ask("activate_personality", {"id": 0}, reply="personality_add_failed")
    assert await program.reply("activate_personality") == failed
    assert await program.generate("Hi", 1) == "Hi"


async def test_there_are_no_tokens_and_no_embeddings_and_no_database(house: House) -> None:
    program = await house.program()
    tokenized = await program.ask("tokenize", {"prompt": "Hi"}, reply="tokenized")
    assert tokenized == {"tokens": [], "error": "not supported: the module's protocol has no tokenizer"}
    assert (await program.ask("detokenize", {"tokens": [1]}, reply="detokenized"))["text"] == ""
    embedded = await program.ask("embed", "Hi", reply="embeded")
    assert (embedded["text"], embedded["embedding"]) == ("Hi", [])
    unsupported = {"status": False, "error": "not supported"}
    assert await program.ask("vectorize_text", {"path": "/etc/passwd"}, reply="vectorized_db") == unsupported
    assert await program.ask("query_database", reply="vector_db_query") == unsupported


async def test_a_generation_takes_its_fields_by_position_too(house: House) -> None:
    program = await house.program()
    await program.select("echo")
    await program.ask("select_model", "lorem")
    await program.send("generate_text", "Hi", -1, 3, {"temperature": 0.5})
    text, done = await program.generated()
    assert text == done["text"] == "lorem ipsum dolor"


async def test_the_old_document_needs_no_number_of_tokens(house: House) -> None:
    program = await house.program()
    await program.select("echo")
    await program.send("generate_text", {"prompt": "Hi there", "personality": -1})
    assert (await program.generated())[0] == "Hi there"


async def test_an_idle_program_that_cancels_is_told_so(house: House) -> None:
    program = await house.program()
    for event, arguments in (
        ("cancel_generation", ()),
        ("cancel_text_generation", ({},)),
        ("cancel_generation", (None,)),
    ):
        canceled = await program.ask(event, *arguments, reply="generation_canceled")
        assert (canceled["text"], canceled["request_id"]) == ("", None)
    assert program.nothing_more


async def test_without_a_binding_a_generation_fails_in_both_forms(house: House) -> None:
    program = await house.program()
    await program.send("generate_text", {"prompt": "Hi", "personality": -1})
    error = (await program.reply("generation_error"))["error"]
    assert error == "Please select a binding first"
    done = await program.reply("text_generated")
    assert (done["text"], done["error"]) == ("", error)
