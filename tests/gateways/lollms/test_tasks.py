"""An owner of tasks ends them all, and no failure is lost."""

import asyncio
from contextlib import suppress

import pytest
from support.waiting import bounded
from waifu_lollms.tasks import Tasks


async def fail() -> None:
    raise ZeroDivisionError("a bug")


async def test_a_failure_that_nobody_waits_for_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    tasks.start(fail())
    async with bounded():
        await tasks.finish()
    assert "ZeroDivisionError: a bug" in caplog.text


async def test_a_close_ends_what_runs_and_what_that_starts_meanwhile() -> None:
    tasks = Tasks()
    started = asyncio.Event()
    ends = []

    async def run(more: int) -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            ends.append(more)
            if more:
                tasks.start(run(more - 1))

    tasks.start(run(2))
    await started.wait()
    async with bounded():
        await tasks.close()
    assert len(tasks) == 0
    assert ends[0] == 2


async def test_there_is_room_once_one_has_ended() -> None:
    tasks = Tasks()
    go = asyncio.Event()
    for _ in range(2):
        tasks.start(go.wait())
    waiting = asyncio.create_task(tasks.room(2))
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0)
    assert not waiting.done()
    go.set()
    async with bounded():
        await waiting
    assert len(tasks) < 2
