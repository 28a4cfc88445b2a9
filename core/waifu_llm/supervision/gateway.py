"""Owns one gateway: its process and its state. One that dies is started again, within a limit.

A gateway has nobody who asks for it, so that it starts by itself and goes on until it is stopped or given up. All
of it happens in one task; the state changes in `_move` alone.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Final
from urllib.parse import urlsplit

from waifu_client.protocol import WorkerStats
from waifu_llm.errors import InstallFailed, ModuleError, StartFailed
from waifu_llm.supervision.jobs import LoadProgress
from waifu_llm.supervision.life import Clock, Life, Recipe
from waifu_llm.supervision.state import CrashLimit, WorkerState, check_move, restart_delay
from waifu_worker.framing import decode_from_gateway
from waifu_worker.wire import FromGateway, GatewayFailed, GatewayReady, Start

_log = logging.getLogger(__name__)

OnReady = Callable[[str, str], None]

_LONGEST_ADDRESS: Final = 200
_LONGEST_REFUSAL: Final = 500


class CannotServe(ModuleError):
    """What the gateway itself said: with these settings it cannot do its work, however often it is started."""


class Gateway:
    """One gateway. `start` is the line it gets; `on_ready` its name and the address where it listens, each time."""

    def __init__(self, recipe: Recipe, start: Start, on_ready: OnReady, clock: Clock | None = None) -> None:
        self.name = recipe.manifest.name
        self._recipe = recipe
        self._start = start
        self._on_ready = on_ready
        self._who = f"the gateway {self.name}"
        self._loop = asyncio.get_running_loop()
        self._clock = clock or self._loop
        self._state = WorkerState.STOPPED
        self._crashes = CrashLimit(recipe.settings.crashes, recipe.settings.crash_window_s)
        self._restarts = 0
        self._life: Life[FromGateway] | None = None
        self._death: asyncio.Future[str] = self._loop.create_future()
        self._address: str | None = None
        self._ready_since: float | None = None
        self._progress = ""
        self._running: asyncio.Task[None] | None = None

    @property
    def state(self) -> WorkerState:
        """A snapshot; stopped also while it waits to be started again."""
        return self._state

    def stats(self) -> WorkerStats:
        """How it fares."""
        life = self._life
        return WorkerStats(
            provider=self.name,
            state=self._state,
            pid=None if life is None else life.pid,
            memory_bytes=None if life is None else life.weight,
            running=0,
            queued=0,
            uptime_s=None if self._ready_since is None else round(self._clock.time() - self._ready_since, 3),
            restarts=self._restarts,
            kind="gateway",
            address=self._address,
        )

    def begin(self) -> None:
        """Start it and keep it running, in the background. Called once."""
        self._running = self._loop.create_task(self._run())

    def stop(self) -> Coroutine[None, None, None]:
        """Stop it for good, in the steps of `Child.stop`. Cancelling it leaves them where they are.

        It begins with the call, not with the first await: what ends in between is no death any more.
        """
        if self._state in {WorkerState.STARTING, WorkerState.READY}:
            self._move(WorkerState.STOPPING)
        if self._running is not None:
            self._running.cancel()
        return self._stopped()

    async def _stopped(self) -> None:
        if self._running is not None:
            await asyncio.wait({self._running})
        if self._life is not None:
            await self._life.stop()
        self._forget()
        if self._state is not WorkerState.STOPPED:
            self._move(WorkerState.STOPPED)

    def _move(self, state: WorkerState) -> None:
        check_move(self._state, state)
        _log.info("%s: %s -> %s", self.name, self._state, state)
        self._state = state

    def _forget(self) -> None:
        self._life = self._address = self._ready_since = None

    # Its lives, one after the other.

    async def _run(self) -> None:
        try:
            while (delay := await self._live()) is not None:
                if delay:
                    await self._pause(delay)
                self._restarts += 1
        except Exception:
            _log.exception("an error inside the module: %s is given up", self._who)
            await self._give_up()

    async def _live(self) -> float | None:
        """One life; the seconds until the next one, None where there is none."""
        self._move(WorkerState.STARTING)
        self._death = self._loop.create_future()
        life = self._life = Life(self, self._recipe, self._who, decode_from_gateway, self._clock)
        try:
            greeting = await life.begin(self._tell, first=self._start)
            assert isinstance(greeting, GatewayReady)
            self._become_ready(greeting.address)
        except (CannotServe, InstallFailed) as error:
            _log.error("%s is given up: %s", self._who, error.message)
            await self._give_up()
            return None
        except ModuleError as error:
            return await self._died(error.message)
        except OSError as error:
            return await self._died(f"{self._who} could not be started: {error}")
        what = await self._death
        return await self._died(f"{self._who} {what}{life.channel.details()}")

    def _become_ready(self, address: str) -> None:
        if not is_address(address):
            raise StartFailed(f"{self._who} greeted with {address[:_LONGEST_ADDRESS]!r}, which is no address")
        self._move(WorkerState.READY)
        self._address = address
        self._ready_since = self._clock.time()
        _log.info("%s listens at %s", self._who, address)
        # Not from here: what goes wrong where it is shown must not be taken for a bad start.
        self._loop.call_soon(self._on_ready, self.name, address)

    async def _died(self, message: str) -> float | None:
        limit_reached = self._crashes.died(self._clock.time(), delivered=False)
        if limit_reached:
            _log.error("%s; it is given up, since it died too often: mend that, then start the module again", message)
            await self._give_up()
            return None
        delay = restart_delay(self._crashes.deaths)
        _log.warning("%s; it is started again in %g s", message, delay)
        if self._state is WorkerState.STARTING:
            self._move(WorkerState.STOPPING)
            await self._end_process()
        self._forget()
        self._move(WorkerState.STOPPED)
        return delay

    async def _give_up(self) -> None:
        await self._end_process()
        self._forget()
        if self._state is not WorkerState.FAILED:
            self._move(WorkerState.FAILED)

    async def _end_process(self) -> None:
        if self._life is not None:
            await self._life.end()

    async def _pause(self, delay: float) -> None:
        over = asyncio.Event()
        timer = self._clock.call_later(delay, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    def _tell(self, progress: LoadProgress) -> None:
        if progress.stage == "environment" and progress.detail != self._progress:
            self._progress = progress.detail
            _log.info("%s is being installed: %s", self._who, progress.detail)

    # What a life tells.

    def received(self, life: Life[FromGateway], message: FromGateway) -> None:
        """It says that it cannot serve."""
        if life is self._life and isinstance(message, GatewayFailed):
            life.refuse(CannotServe(self._recipe.log.clean(message.message)[:_LONGEST_REFUSAL]))

    def over(self, life: Life[FromGateway], what: str) -> None:
        """Its process has ended."""
        if life is self._life and not self._death.done():
            self._death.set_result(what)


def is_address(text: str) -> bool:
    """Whether it may be shown as where a gateway listens: a URL, as users open it."""
    try:
        url = urlsplit(text)
        known = url.scheme in {"http", "https", "ws", "wss"} and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
    return known and len(text) <= _LONGEST_ADDRESS and text.isprintable() and " " not in text
