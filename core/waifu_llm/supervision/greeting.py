"""The wait for a worker's first line, and what it means where it does not come."""

import asyncio
import signal

from waifu_llm.errors import StartFailed
from waifu_llm.supervision.channel import Channel
from waifu_worker.wire import MAGIC, WIRE_VERSION, Ready


class Greeting:
    """Ends with the worker's `ready`, with its death, or with the time limit; whichever is first."""

    def __init__(self, name: str, channel: Channel) -> None:
        self._name = name
        self._channel = channel
        self._arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self, limit_s: float) -> None:
        """Return when the worker has greeted. Cancelling it is safe. Raises: StartFailed."""
        try:
            async with asyncio.timeout(limit_s):
                await self._arrived
        except TimeoutError as error:
            raise self._failed(f"was not ready within {limit_s:g} s") from error
        if self._channel.ended:
            raise self._failed("ended right after its greeting")

    def said(self, message: Ready) -> None:
        """The worker's `ready`; a second one means nothing."""
        if self._arrived.done():
            return
        if (message.magic, message.wire, message.name) == (MAGIC, WIRE_VERSION, self._name):
            self._arrived.set_result(None)
        else:
            self._fail(f"greeted as {message.magic!r} {message.name!r} with wire version {message.wire}")

    def died(self, what: str) -> None:
        """The process has ended."""
        if not self._arrived.done():
            self._fail(what)

    def _fail(self, what: str) -> None:
        self._arrived.set_exception(self._failed(what))
        self._arrived.exception()  # seen: a start that was called off while it spawned does not wait any more

    def _failed(self, what: str) -> StartFailed:
        return StartFailed(f"the worker of {self._name} {what}{self._channel.details()}")


def cause_of_death(returncode: int) -> str:
    """An exit code or a signal in words."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {-returncode}, {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"
