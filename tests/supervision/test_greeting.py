"""The wait for a worker's first line, where nobody waits any more."""

import asyncio
import gc
from pathlib import Path

from waifu_llm.log import WorkerLog
from waifu_llm.redaction import Redactor
from waifu_llm.supervision.channel import Channel
from waifu_llm.supervision.greeting import Greeting


class Nobody:
    """Satisfies `ChannelOwner`."""

    def received(self, channel: Channel, message: object) -> None:
        """Nothing is done about it."""

    def broken(self, channel: Channel, why: str) -> None:
        """Nothing is done about it."""

    def gone(self, channel: Channel, returncode: int) -> None:
        """Nothing is done about it."""


async def test_the_death_of_a_worker_whose_start_was_called_off_is_no_error(tmp_path: Path) -> None:
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, what: told.append(what))
    greeting = Greeting("fake", Channel(Nobody(), WorkerLog(tmp_path / "fake.log", Redactor()), loop.time))
    greeting.died("died")
    del greeting
    gc.collect()
    assert told == []
