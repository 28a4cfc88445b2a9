"""The wait for a process's first line, where nobody waits any more."""

import asyncio
import gc
from pathlib import Path

from waifu_llm.log import WorkerLog
from waifu_llm.redaction import Redactor
from waifu_llm.supervision.afterwards import Afterwards
from waifu_llm.supervision.channel import Channel
from waifu_llm.supervision.greeting import Greeting
from waifu_worker.framing import decode_from_worker
from waifu_worker.wire import FromWorker


class Nobody:
    """Satisfies `ChannelOwner`."""

    def received(self, message: FromWorker) -> None:
        """Nothing is done about it."""

    def broken(self, why: str) -> None:
        """Nothing is done about it."""

    def gone(self, returncode: int) -> None:
        """Nothing is done about it."""


async def test_the_death_of_a_worker_whose_start_was_called_off_is_no_error(tmp_path: Path) -> None:
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, what: told.append(what))
    channel = Channel(
        Nobody(), WorkerLog(tmp_path / "fake.log", Redactor()), decode_from_worker, loop.time, Afterwards()
    )
    greeting = Greeting("fake", "the worker of fake", channel)
    greeting.died("died")
    del greeting
    gc.collect()
    assert told == []
