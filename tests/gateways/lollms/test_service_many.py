"""Twenty programs at once keep apart."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

from support.lollms_service import House, Program, lollms_house
from support.waiting import bounded

PROGRAMS = 20


async def talk(program: Program, number: int) -> None:
    for turn in range(3):
        words = f"{number} says {turn} and its secret is {number * 1000 + turn}"
        assert await program.generate(words, turn % 2) == words
        assert await program.generate(words) == words


async def test_twenty_programs_that_generate_at_once_get_their_own_texts(
    home: Path, installed: Callable[..., None]
) -> None:
    installed("echo")
    state = "binding_name: echo\npersonalities: [english/generic/lollms, english/fun/pirate]\n"
    async with lollms_house(home, state=state) as house, bounded():
        programs = [await house.program() for _ in range(PROGRAMS)]
        await asyncio.gather(*(talk(program, number) for number, program in enumerate(programs)))
        assert len(house.clients) == PROGRAMS
        for program in programs:
            assert program.nothing_more
            assert len({payload["request_id"] for event, payload in program.history if event == "text_generated"}) == 6
        ids = [
            payload["request_id"] for each in programs for event, payload in each.history if event == "text_generated"
        ]
        assert len(set(ids)) == 6 * PROGRAMS


async def misbehave(house: House, number: int, dice: random.Random) -> None:
    """One life in random order: its cancels, bad payloads and leaving are nobody else's."""
    program = await house.program()
    for _ in range(dice.randrange(1, 6)):
        await program.send("generate_text", {"prompt": f"word{number} " * 50, "personality": dice.choice((-1, 0, 9))})
        match dice.randrange(4):
            case 0:
                await program.send("cancel_generation")
                await heard(program, "generation_canceled")
            case 1:
                await program.next()
            case 2:
                await program.send("select_model", {"model_name": "lorem" if number % 2 else ""})
            case _:
                await heard(program, "text_generated")
    await program.leave()
    chunks = [str(payload["chunk"]) for event, payload in program.history if event == "text_chunk"]
    # What waits for a slow reader is joined.
    assert {word for chunk in chunks for word in chunk.split()} - set(LOREM) <= {f"word{number}"}


async def heard(program: Program, event: str) -> None:
    while (await program.next())[0] != event:
        pass


LOREM = (
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore "
    "magna aliqua ut enim ad minim veniam quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo "
    "consequat"
).split()


async def test_programs_that_cancel_err_and_leave_disturb_nobody(
    home: Path, installed: Callable[..., None], no_leaks: None
) -> None:
    installed("echo")
    async with lollms_house(home, state="binding_name: echo\n") as house, bounded():
        steady = await house.program()
        dice = random.Random(4)
        lives = [asyncio.create_task(misbehave(house, number, dice)) for number in range(PROGRAMS)]
        while not all(life.done() for life in lives):
            await steady.send("generate_text", {"prompt": "steady as she goes", "personality": -1, "n_predicts": 3})
            text, done = await steady.generated()
            assert text == done["text"]
            assert text in ("steady as she goes", "lorem ipsum dolor")
        await asyncio.gather(*lives)
        assert steady.nothing_more
