"""The guardian beside real children: there before them, replaced where it died, missed by none of them."""

import os
import signal
import sys

import psutil
import pytest
from support.children import ENV, Events, python
from support.waiting import gone, until

from waifu_llm.supervision.process import Processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has a job object instead")


async def test_a_guardian_that_was_prepared_is_the_one_of_the_first_start(processes: Processes) -> None:
    processes.prepare()
    await until(lambda: processes._guard.pid is not None, "it watches")
    prepared = processes._guard.pid
    await processes.run(python("pass"), env=ENV)
    assert processes._guard.pid == prepared


async def test_a_guardian_that_died_is_replaced_before_the_next_start(processes: Processes) -> None:
    """R10: without one the children of a core that is killed could outlive it."""
    await processes.run(python("pass"), env=ENV)
    first = processes._guard.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: processes._guard.pid is None, "its end was told")
    assert (await processes.run(python("pass"), env=ENV)).returncode == 0
    second = processes._guard.pid
    assert second is not None and second != first
    assert psutil.pid_exists(second)


async def test_the_children_of_a_run_end_with_it_though_its_guardian_died_before() -> None:
    events = Events()
    async with Processes() as processes:
        child = await processes.spawn(python("import time; time.sleep(600)"), ENV, events)
        guardian = processes._guard.pid
        assert guardian is not None
        os.kill(guardian, signal.SIGKILL)
        await until(lambda: processes._guard.pid is None, "its end was told")
    assert await events.end() == -signal.SIGKILL
    assert gone(child.pid)
