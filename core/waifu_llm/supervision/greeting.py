"""The wait for the first line of a worker or a gateway, and what it means where it does not come."""

import asyncio
import signal
from typing import Any, Final

from waifu_llm.errors import ModuleError, StartFailed
from waifu_llm.supervision.channel import Channel
from waifu_worker.wire import MAGIC, WIRE_VERSION, GatewayReady, Ready

# A timer that is so late was held up: the machine slept or was frozen, or the loop was. Nobody is to blame for that.
LATE_S: Final = 2.0


class Greeting:
    """Ends with the `ready` of the worker or gateway `name`, with its death, or with the time limit.

    `who` begins a sentence about it.
    """

    def __init__(self, name: str, who: str, channel: Channel[Any]) -> None:
        self._name = name
        self._who = who
        self._channel = channel
        self._arrived: asyncio.Future[Ready | GatewayReady] = asyncio.get_running_loop().create_future()

    async def wait(self, limit_s: float) -> Ready | GatewayReady:
        """Return when it has greeted. Cancelling it is safe. Raises: StartFailed, or what it was refused with."""
        self._limit(limit_s)
        try:
            greeting = await self._arrived
        finally:
            self._timer.cancel()
        if self._channel.ended:
            raise self._failed("ended right after its greeting")
        return greeting

    def _limit(self, limit_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(limit_s, self._over, limit_s, loop.time() + limit_s)

    def _over(self, limit_s: float, due: float) -> None:
        if self._arrived.done():
            return
        if asyncio.get_running_loop().time() - due > LATE_S:
            self._limit(limit_s)
        else:
            self._fail(self._failed(f"was not ready within {limit_s:g} s"))

    def said(self, message: Ready | GatewayReady) -> None:
        """Its `ready`; a second one means nothing."""
        if self._arrived.done():
            return
        if (message.magic, message.wire, message.name) == (MAGIC, WIRE_VERSION, self._name):
            self._arrived.set_result(message)
        else:
            self._fail(self._failed(f"greeted as {message.magic!r} {message.name!r} with wire version {message.wire}"))

    def refused(self, error: ModuleError) -> bool:
        """It says that it cannot start; False where it had greeted before."""
        if self._arrived.done():
            return False
        self._fail(error)
        return True

    def died(self, what: str) -> None:
        """The process has ended."""
        if not self._arrived.done():
            self._fail(self._failed(what))

    def _fail(self, error: ModuleError) -> None:
        self._arrived.set_exception(error)
        self._arrived.exception()  # seen: a start that was called off while it spawned does not wait any more

    def _failed(self, what: str) -> StartFailed:
        return StartFailed(f"{self._who} {what}{self._channel.details()}")


def manner_of_death(returncode: int) -> str:
    """How it ended by itself, or by somebody else: "died (...)", which ends a sentence about it."""
    hint = ", as where the system has no memory left" if returncode == -9 else ""
    return f"died ({cause_of_death(returncode)}){hint}"


def cause_of_death(returncode: int) -> str:
    """An exit code or a signal in words."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {-returncode}, {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"
