"""Generations, their queue, cancels and failures: the test holds the model's hand, so nothing is left to time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from support.lollms_service import House, Program, lollms_house, write_personality
from support.puppet import Puppet, Strand, puppet
from support.waiting import bounded
from waifu_lollms.speech import LONGEST_ANSWER

PIECE = 32 * 1024
STATE = "binding_name: fake\nmodel_name: puppet\npersonalities: [english/generic/lollms, english/fun/pirate]\n"


@pytest.fixture
async def hand() -> AsyncIterator[Puppet]:
    async with puppet() as hand:
        yield hand


@pytest.fixture
async def house(home: Path, installed: Callable[..., None], hand: Puppet) -> AsyncIterator[House]:
    installed("fake")
    async with lollms_house(home, state=STATE) as house:
        house.fields["fake"] = {"puppet": hand.address}
        yield house


async def ask(program: Program, prompt: str, personality: object = -1, **fields: object) -> None:
    await program.send("generate_text", {"prompt": prompt, "personality": personality, **fields})


async def say(strand: Strand, program: Program, text: str) -> str:
    """A piece of the answer that reaches the program; its request id."""
    await strand.chunk(text)
    chunk = await program.reply("text_chunk")
    assert (chunk["chunk"], chunk["type"]) == (text, 0)
    request_id: str = chunk["request_id"]
    return request_id


async def test_chunks_come_as_they_are_made_and_the_end_has_the_same_id(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "Hi")
    strand = await hand.strand()
    assert strand.hello["messages"] == [["user", None, "Hi"]]
    assert strand.hello["prompt"] is None
    assert strand.hello["stops"] == []
    ids = {await say(strand, program, text) for text in ("Grüße", " ", "👋\n")}
    await strand.finish()
    assert await program.reply("text_generated") == {"text": "Grüße 👋\n", "request_id": ids.pop()}
    assert not ids
    assert program.nothing_more


async def test_a_raw_answer_keeps_whatever_name_it_begins_with(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "Hi")
    strand = await hand.strand()
    await say(strand, program, "AI: Hello")
    await strand.finish()
    assert (await program.reply("text_generated"))["text"] == "AI: Hello"


async def test_a_personality_answers_with_its_instructions_and_what_was_said(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "Hi", 0)
    strand = await hand.strand()
    assert strand.hello["messages"] == [["system", None, "!@> Instruction: help.\n"], ["user", None, "Hi"]]
    assert strand.hello["stops"] == ["!@>Human", "!@>"]
    await say(strand, program, "Hello.")
    await strand.finish()
    await program.reply("text_generated")
    await ask(program, "And now?", 0)
    strand = await hand.strand()
    assert strand.hello["messages"] == [
        ["system", None, "!@> Instruction: help.\n"],
        ["user", None, "Hi"],
        ["assistant", None, "Hello."],
        ["user", None, "And now?"],
    ]
    await strand.finish()
    await program.reply("text_generated")


async def test_a_history_is_one_programs_and_one_personalitys(house: House, hand: Puppet) -> None:
    first, second = await house.program(), await house.program()
    await ask(first, "A secret", 0)
    strand = await hand.strand()
    await say(strand, first, "Kept.")
    await strand.finish()
    await first.reply("text_generated")
    for program, personality in ((second, 0), (first, 1), (first, -1)):
        await ask(program, "Hi", personality)
        strand = await hand.strand()
        assert "secret" not in str(strand.hello["messages"])
        await strand.finish()
        await program.reply("text_generated")


async def test_without_a_personality_the_active_one_answers(house: House, hand: Puppet) -> None:
    program, other = await house.program(), await house.program()
    await other.ask("activate_personality", {"id": 1})
    await program.send("generate_text", {"prompt": "Hi"})
    strand = await hand.strand()
    assert ["system", None, "Talk like a pirate.\n"] in strand.hello["messages"]  # type: ignore[operator]
    await strand.finish()
    await program.reply("text_generated")


async def test_a_text_provider_gets_the_joined_text(house: House, hand: Puppet) -> None:
    program = await house.program()
    await program.ask("list_available_bindings", reply="bindings_list")
    house.abilities("fake", ["text"])
    await ask(program, "Hi", "0")
    strand = await hand.strand()
    assert strand.hello["prompt"] == "!@> Instruction: help.\n!@> Human: Hi\n!@> lollms:"
    assert strand.hello["messages"] == []
    await strand.finish()
    await program.reply("text_generated")


@pytest.mark.parametrize("personality", [2, 99, -2, "99", "Pirate", 0.5, True, [], {}])
async def test_a_personality_that_is_none_is_an_error_in_both_forms(house: House, personality: object) -> None:
    program = await house.program()
    await ask(program, "Hi", personality)
    error = (await program.reply("generation_error"))["error"]
    done = await program.reply("text_generated")
    assert error
    assert (done["text"], done["error"]) == ("", error)
    assert program.nothing_more


async def test_where_no_personality_is_active_a_program_must_name_one(
    home: Path, installed: Callable[..., None]
) -> None:
    async with lollms_house(home, state="binding_name: fake\nactive_personality_id: -1\n") as house:
        program = await house.program()
        await program.send("generate_text", {"prompt": "Hi"})
        assert "no personality is active" in (await program.reply("generation_error"))["error"]
        await program.reply("text_generated")


async def test_a_failure_leaves_what_was_said(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "Hi", 0)
    strand = await hand.strand()
    await say(strand, program, "So f")
    strand.say("fail", code="UNEXPECTED", message="the model fell over")
    error = (await program.reply("generation_error"))["error"]
    assert "the model fell over" in error
    done = await program.reply("text_generated")
    assert (done["text"], done["error"]) == ("So f", error)
    await ask(program, "Go on", 0)
    strand = await hand.strand()
    assert ["assistant", None, "So f"] in strand.hello["messages"]  # type: ignore[operator]
    await strand.finish()
    await program.reply("text_generated")


async def test_an_answer_without_an_end_is_ended_and_kept_as_far_as_it_came(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "Go on for ever")
    strand = await hand.strand()
    for _ in range(LONGEST_ANSWER // PIECE):
        await say(strand, program, "a" * PIECE)
    await strand.chunk("too much")
    error = (await program.reply("generation_error"))["error"]
    assert "n_predicts" in error
    done = await program.reply("text_generated")
    assert (done["text"], done["error"]) == ("a" * LONGEST_ANSWER, error)
    await strand.cancelled()
    await ask(program, "Again")
    strand = await hand.strand()
    for _ in range(LONGEST_ANSWER // PIECE - 1):
        await say(strand, program, "b" * PIECE)
    await strand.chunk("c" * (PIECE + 1))
    assert (await program.reply("text_chunk"))["chunk"] == "c" * PIECE
    await program.reply("generation_error")
    assert len((await program.reply("text_generated"))["text"]) == LONGEST_ANSWER
    await strand.cancelled()
    assert program.nothing_more


async def test_what_a_program_does_not_read_in_time_comes_later_and_whole(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "Hi", 0)
    strand = await hand.strand()
    await say(strand, program, "It begins")
    program.reads.clear()
    pieces = [f" {number} 👋" for number in range(200)]
    for piece in pieces:
        await strand.chunk(piece)
    await strand.finish()
    async with bounded():
        await program.stuck.wait()
    program.reads.set()
    chunks, done = await program.generated()
    assert done["text"] == "It begins" + "".join(pieces) == "It begins" + chunks


async def test_what_is_asked_for_right_after_an_activation_is_answered_by_that_personality(
    house: House, hand: Puppet
) -> None:
    program = await house.program()
    for number, said in ((1, "Talk like a pirate.\n"), (0, "!@> Instruction: help.\n")):
        await program.send("activate_personality", {"id": number})
        await program.send("generate_text", {"prompt": "Hi"})
        assert (await program.reply("activate_personality"))["id"] == number
        strand = await hand.strand()
        messages = strand.hello["messages"]
        assert isinstance(messages, list)
        assert messages[0] == ["system", None, said]
        await strand.finish()
        await program.reply("text_generated")


async def test_a_failed_empty_turn_leaves_nothing(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "Hi", 0)
    (await hand.strand()).say("fail", code="UNEXPECTED")
    await program.reply("generation_error")
    assert (await program.reply("text_generated"))["text"] == ""
    await ask(program, "Again", 0)
    strand = await hand.strand()
    assert [role for role, _, _ in strand.hello["messages"]] == ["system", "user"]  # type: ignore[attr-defined]
    await strand.finish()
    await program.reply("text_generated")


async def test_a_cancelled_answer_stays_as_far_as_it_came(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "Hi", 0)
    strand = await hand.strand()
    request_id = await say(strand, program, "So f")
    await program.send("cancel_generation")
    canceled = await program.reply("generation_canceled")
    assert (canceled["text"], canceled["request_id"]) == ("So f", request_id)
    assert await program.reply("text_generated") == {"text": "So f", "request_id": request_id}
    await strand.cancelled()
    await ask(program, "Go on", 0)
    strand = await hand.strand()
    assert ["assistant", None, "So f"] in strand.hello["messages"]  # type: ignore[operator]
    await strand.finish()
    await program.reply("text_generated")


async def test_a_raw_generation_that_was_cancelled_ends_with_that(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "Hi", "-1")
    strand = await hand.strand()
    request_id = await say(strand, program, "So f")
    canceled = await program.ask("cancel_text_generation", reply="generation_canceled")
    assert (canceled["text"], canceled["request_id"]) == ("So f", request_id)
    await strand.cancelled()
    await ask(program, "Next")
    strand = await hand.strand()
    await strand.finish()
    assert (await program.reply("text_generated"))["request_id"] != request_id
    assert program.nothing_more


async def test_generations_of_a_program_run_one_after_the_other(house: House, hand: Puppet) -> None:
    program = await house.program()
    for number in range(3):
        await ask(program, str(number))
    for number in range(3):
        strand = await hand.strand()
        assert strand.hello["messages"] == [["user", None, str(number)]]
        await say(strand, program, f"answer {number}")
        await strand.finish()
        assert (await program.reply("text_generated"))["text"] == f"answer {number}"


async def test_a_full_queue_is_busy_by_both_names_and_keeps_what_it_has(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "0")
    strand = await hand.strand()
    for number in range(1, 5):
        await ask(program, str(number))
    await ask(program, "too much")
    message = await program.reply("buzzy")
    assert await program.reply("busy") == message
    assert message["message"]
    await strand.finish()
    await program.reply("text_generated")
    await ask(program, "5")
    for number in range(1, 6):
        strand = await hand.strand()
        assert strand.hello["messages"] == [["user", None, str(number)]]
        await strand.finish()
        await program.reply("text_generated")
    assert program.nothing_more


async def test_a_cancel_drops_what_waits(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "0")
    strand = await hand.strand()
    request_id = await say(strand, program, "So f")
    await ask(program, "raw")
    await ask(program, "with a personality", 0)
    await program.send("cancel_generation", {})
    assert (await program.reply("generation_canceled"))["request_id"] == request_id
    dropped = await program.reply("text_generated")
    assert dropped["text"] == ""
    assert dropped["request_id"] != request_id
    await strand.cancelled()
    await ask(program, "after")
    strand = await hand.strand()
    assert strand.hello["messages"] == [["user", None, "after"]]
    await strand.finish()
    await program.reply("text_generated")
    assert program.nothing_more


async def test_what_is_asked_for_right_after_a_cancel_starts_after_its_answer(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "0", 0)
    strand = await hand.strand()
    await program.send("cancel_generation")
    await program.send("cancel_generation")
    await ask(program, "1")
    first = await program.reply("generation_canceled")
    assert first["request_id"] is not None
    assert (await program.reply("text_generated"))["request_id"] == first["request_id"]
    assert (await program.reply("generation_canceled"))["request_id"] is None
    strand = await hand.strand()
    assert strand.hello["messages"] == [["user", None, "1"]]
    await say(strand, program, "one")
    await strand.finish()
    await program.reply("text_generated")


async def test_a_generation_that_is_cancelled_at_once_never_begins(house: House, hand: Puppet) -> None:
    program = await house.program()
    await asyncio.gather(ask(program, "0"), program.send("cancel_generation"))
    canceled = await program.reply("generation_canceled")
    assert canceled["text"] == ""
    assert canceled["request_id"] is not None
    await ask(program, "1")
    strand = await hand.strand()
    assert strand.hello["messages"] == [["user", None, "1"]]
    await strand.finish()
    await program.reply("text_generated")
    assert program.nothing_more


async def test_a_cancel_that_comes_while_the_end_is_being_sent_is_idle(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "0")
    strand = await hand.strand()
    request_id = await say(strand, program, "all")
    program.reads.clear()
    await strand.finish()
    async with bounded():
        await program.stuck.wait()
    await program.send("cancel_generation")
    program.reads.set()
    heard = dict([await program.next(), await program.next()])
    assert heard["text_generated"] == {"text": "all", "request_id": request_id}
    assert heard["generation_canceled"]["request_id"] is None


async def test_a_program_that_does_not_read_can_cancel_and_gets_no_chunk_afterwards(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "0")
    strand = await hand.strand()
    program.reads.clear()
    await strand.chunk("never read")
    async with bounded():
        await program.stuck.wait()
    await program.send("cancel_generation")
    await strand.cancelled()
    program.reads.set()
    assert (await program.reply("generation_canceled"))["text"] == "never read"
    assert program.nothing_more


@pytest.mark.parametrize("phase", ["load", "silence", "chunk", "stuck", "queue"])
async def test_a_program_that_leaves_ends_what_it_had(house: House, hand: Puppet, phase: str) -> None:
    if phase == "load":
        house.fields["fake"]["on_load"] = "puppet"
    program, other = await house.program(), await house.program()
    await ask(program, "0", 0)
    strand = await hand.strand()
    if phase in ("chunk", "queue"):
        await say(strand, program, "So f")
    if phase == "queue":
        for number in range(4):
            await ask(program, str(number))
    if phase == "stuck":
        program.reads.clear()
        await strand.chunk("never read")
        async with bounded():
            await program.stuck.wait()
    said = list(program.history)
    await program.leave()
    assert program.history == said
    if phase != "load":
        await strand.cancelled()
    house.fields["fake"].pop("on_load", None)
    await ask(other, "still here")
    strand = await hand.strand()
    assert strand.hello["messages"] == [["user", None, "still here"]]
    await strand.finish()
    await other.reply("text_generated")
    assert other.nothing_more
    await program.send("generate_text", {"prompt": "from nobody"})
    await program.leave()


async def test_parameters_that_are_wrong_are_named(house: House) -> None:
    program = await house.program()
    for fields, name in (
        ({"temperature": "hot"}, "temperature"),
        ({"parameters": {"top_k": []}}, "top_k"),
        ({"parameters": 5}, "parameters"),
        ({"n_predicts": {}}, "n_predicts"),
    ):
        await ask(program, "Hi", **fields)
        assert name in (await program.reply("generation_error"))["error"]
        assert (await program.reply("text_generated"))["text"] == ""


async def test_a_parameter_that_a_binding_does_not_have_is_said_once(
    house: House, hand: Puppet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "waifu_lollms")
    program = await house.program()
    for _ in range(2):
        await ask(program, "a private prompt")
        strand = await hand.strand()
        await say(strand, program, "a private answer")
        await strand.finish()
        await program.reply("text_generated")
    said = [record.getMessage() for record in caplog.records if "does not have" in record.getMessage()]
    assert said == ["fake does not have these parameters, they are left out: " + said[0].rpartition(": ")[2]]
    assert "repeat_penalty" in said[0]
    assert "private" not in caplog.text


async def test_a_lost_connection_to_the_module_is_made_again(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "0")
    strand = await hand.strand()
    await say(strand, program, "So f")
    (client,) = house.clients
    await client.aclose()
    assert (await program.reply("generation_error"))["error"]
    assert (await program.reply("text_generated"))["text"] == "So f"
    await ask(program, "1")
    strand = await hand.strand()
    await say(strand, program, "back")
    await strand.finish()
    assert (await program.reply("text_generated"))["text"] == "back"


async def test_a_connection_that_is_lost_before_the_first_word_costs_nothing(house: House, hand: Puppet) -> None:
    program = await house.program()
    await ask(program, "0")
    await hand.strand()
    (client,) = house.clients
    await client.aclose()
    strand = await hand.strand()
    await say(strand, program, "at the second try")
    await strand.finish()
    assert (await program.reply("text_generated"))["text"] == "at the second try"
    assert program.nothing_more


async def test_a_personality_that_changes_is_the_new_one_from_the_next_generation_on(
    house: House, hand: Puppet
) -> None:
    program = await house.program()
    await ask(program, "0", 1)
    strand = await hand.strand()
    write_personality(house.personalities, "english/fun/pirate", "personality_conditioning: Now talk like a parrot.\n")
    await strand.finish()
    await program.reply("text_generated")
    await ask(program, "1", 1)
    strand = await hand.strand()
    assert "parrot" in str(strand.hello["messages"])
    await strand.finish()
    await program.reply("text_generated")
