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
