"""The guardian beside real children: there before them, replaced where it died, missed by none of them."""

import asyncio
import errno
import os
import signal
import sys
from functools import partial

import psutil
import pytest
from support.children import ENV, Events, python
from support.waiting import WAIT_S, bounded, gone, until

from waifu_llm.supervision import guard
from waifu_llm.supervision.process import Processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has a job object instead")


async def test_a_guardian_that_was_prepared_is_the_one_of_the_first_start(processes: Processes) -> None:
    processes.prepare()
    await until(lambda: processes._guard.pid is not None, "it watches")
    prepared = processes._guard.pid
    await processes.run(python("pass"), env=ENV)
    assert processes._guard.pid == prepared


def _kill(processes: Processes) -> int:
    """Kill the guardian; the pid that it had."""
    first = processes._guard.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    return first


def _another_watches(processes: Processes, first: int) -> bool:
    return processes._guard.pid not in (None, first)


async def test_no_task_lives_as_long_as_it_watches(processes: Processes) -> None:
    await processes.run(python("pass"), env=ENV)
    assert processes._guard.pid is not None
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_guardian_that_died_is_replaced_before_the_next_start(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R10: without one the children of a core that is killed could outlive it."""
    monkeypatch.setattr(guard, "_PAUSE_S", 1000 * WAIT_S)
    await processes.run(python("pass"), env=ENV)
    first = _kill(processes)
    await until(lambda: processes._guard.pid is None, "its end was told")
    assert (await processes.run(python("pass"), env=ENV)).returncode == 0
    second = processes._guard.pid
    assert second is not None and second != first
    assert psutil.pid_exists(second)


async def test_one_that_died_while_children_run_is_replaced_though_nothing_is_started(
    processes: Processes, caplog: pytest.LogCaptureFixture
) -> None:
    """R10: it was replaced at the next start only. Until then children could outlive a core that was killed, and
    those that are stopped or took sessions of their own did.
    """
    events = Events()
    await processes.spawn(python("import time; time.sleep(600)"), ENV, events)
    for _ in range(2):
        first = _kill(processes)
        await until(partial(_another_watches, processes, first), "another one watches")
    assert caplog.text.count("the guardian of this run's processes ended (-9): starting another one") == 2
    assert processes._guard._process is not None and processes._guard._process.stdin is not None
    processes._guard._process.stdin.close()  # as the end of this process would
    assert await events.end() == -signal.SIGKILL


async def test_one_that_cannot_be_replaced_at_once_is_replaced_as_soon_as_it_can(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await processes.run(python("pass"), env=ENV)
    start, refused = guard.Guard._start, asyncio.Event()

    async def no_start(_: guard.Guard) -> None:
        refused.set()
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(guard.Guard, "_start", no_start)
    first = _kill(processes)
    async with bounded():
        await refused.wait()
    monkeypatch.setattr(guard.Guard, "_start", start)
    await until(partial(_another_watches, processes, first), "another one watches")


async def test_the_children_of_a_run_end_with_it_though_its_guardian_died_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "_PAUSE_S", 1000 * WAIT_S)
    events = Events()
    async with Processes() as processes:
        child = await processes.spawn(python("import time; time.sleep(600)"), ENV, events)
        _kill(processes)
        await until(lambda: processes._guard.pid is None, "its end was told")
    assert await events.end() == -signal.SIGKILL
    assert gone(child.pid)


async def test_one_that_can_never_be_replaced_is_tried_more_and_more_rarely_and_told_once(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was tried ten times a second for ever, without a word."""
    await processes.run(python("pass"), env=ENV)
    start, begin_soon = guard.Guard._start, guard.Guard._begin_soon
    pauses: list[float] = []

    async def start_at_the_tenth(watched: guard.Guard) -> None:
        if len(pauses) < 10:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        await start(watched)

    def begin_at_once(watched: guard.Guard, pause_s: float) -> None:
        pauses.append(pause_s)
        begin_soon(watched, 0)

    monkeypatch.setattr(guard.Guard, "_start", start_at_the_tenth)
    monkeypatch.setattr(guard.Guard, "_begin_soon", begin_at_once)
    for told in (1, 2):
        first = _kill(processes)
        await until(partial(_another_watches, processes, first), "another one watches")
        assert pauses == [0.1, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
        assert caplog.text.count("no guardian of this run's processes can be started") == told
        pauses.clear()


async def _end_known_and_another_one_due(processes: Processes) -> asyncio.TimerHandle:
    _kill(processes)
    await until(lambda: processes._guard.pid is None, "its end was told")
    due = processes._guard._replacing
    assert due is not None and not due.cancelled()
    return due


async def test_two_that_died_one_soon_after_the_other_are_replaced_by_one(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's replacement came too: after the end, if that was sooner."""
    monkeypatch.setattr(guard, "_PAUSE_S", 1000 * WAIT_S)
    await processes.run(python("pass"), env=ENV)
    first = await _end_known_and_another_one_due(processes)
    await processes.run(python("pass"), env=ENV)
    await _end_known_and_another_one_due(processes)
    assert first.cancelled()


async def test_a_run_that_is_over_has_no_guardian_and_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_PAUSE_S", 1000 * WAIT_S)
    async with Processes() as processes:
        await processes.run(python("pass"), env=ENV)
        due = await _end_known_and_another_one_due(processes)
    assert due.cancelled()

    async def no_start(_: guard.Guard) -> None: ...

    monkeypatch.setattr(guard.Guard, "_start", no_start)
    processes.prepare()
    with pytest.raises(OSError, match="this run is over"):
        await processes.run(python("pass"), env=ENV)
    assert processes._guard._starting is None
    assert asyncio.all_tasks() == {asyncio.current_task()}
