"""Children that start while others end."""

import asyncio
import os
import sys

from support.waiting import bounded

from waifu_llm.supervision.process import Processes

AT_ONCE = 24


async def test_a_child_that_ends_takes_no_other_with_it_that_is_just_being_started() -> None:
    argv = [sys.executable, "-I", "-S", "-c", "raise SystemExit(7)"]
    async with Processes() as processes, bounded():
        ended = await asyncio.gather(*(processes.run(argv, env=os.environ) for _ in range(AT_ONCE)))
    assert [done.returncode for done in ended] == [7] * AT_ONCE
