"""When the core looks for orphans: not beside a start, and then in a moment."""

import asyncio
import signal
import sys

import pytest
from support.children import ENV, python
from support.waiting import bounded

from waifu_llm.supervision import orphans, process
from waifu_llm.supervision.process import Processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has jobs instead")


async def test_a_look_that_meets_a_start_is_made_up_for_in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put off to the next one it would leave the dead for two whole intervals, as the chaos run saw."""
    looked = asyncio.Event()

    def end(first_mark: int, living: set[int], keep: set[int]) -> bool:
        looked.set()
        return False

    monkeypatch.setattr(orphans, "end", end)
    monkeypatch.setattr(process, "_LOOK_INTERVAL_S", 3600.0)
    processes = Processes()
    processes._starting = 1
    processes._end_orphans()
    assert not looked.is_set()
    processes._starting = 0
    async with bounded():
        await looked.wait()
    assert processes._look is None


async def test_who_has_ended_hears_of_no_child_any_more() -> None:
    """It would be kept for as long as the loop is."""
    async with Processes() as processes:
        await processes.run(python("pass"), env=ENV)
    assert not asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
