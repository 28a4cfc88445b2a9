"""Selecting, generating and cancelling, as one program sees it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from support.lollms_service import House, lollms_house


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
