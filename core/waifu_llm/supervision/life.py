"""One life of a worker or a gateway: its environment, its process, its greeting, the watch over it, its one end.

What is started again is another life; a message or a death that comes late belongs to a life nobody looks at.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from waifu_llm.catalog import Manifest
from waifu_llm.config import WorkerSettings
from waifu_llm.environment.model import Environment
from waifu_llm.errors import ModuleError, OutOfMemory, WorkerCrashed
from waifu_llm.log import WorkerLog
from waifu_llm.supervision.afterwards import Afterwards
from waifu_llm.supervision.channel import Channel
from waifu_llm.supervision.greeting import LATE_S, Greeting, manner_of_death
from waifu_llm.supervision.jobs import LoadProgress
from waifu_llm.supervision.process import Child, ChildEvents
from waifu_llm.supervision.scales import Scales
from waifu_worker.wire import Beat, FromGateway, FromWorker, GatewayReady, Ready, ToGateway

_log = logging.getLogger(__name__)

SILENCE_S: Final = 30.0
WATCH_INTERVAL_S: Final = 5.0

M = TypeVar("M", bound=FromWorker | FromGateway)

OnProgress = Callable[[LoadProgress], None]
Prepare = Callable[[Manifest, OnProgress], Awaitable[Environment]]


class Spawn(Protocol):
    """Starts a process; `Processes.spawn`, or a fake of the tests."""

    async def __call__(self, argv: Sequence[str], env: Mapping[str, str], events: ChildEvents, nice: int = 0) -> Child:
        """Raises: OSError."""
        ...


class Timer(Protocol):
    """A call to come."""

    def cancel(self) -> None:
        """It does not come."""


class Clock(Protocol):
    """The part of an event loop that knows the time; the tests have one that they set themselves."""

    def time(self) -> float:
        """Seconds, from anywhere."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call it once, in so many seconds."""
        ...


class Recipe(msgspec.Struct, frozen=True):
    """How the process of a manifest is started. `prepare` gives its environment; `environ` is what it may see.

    `scales` is who weighs it; `afterwards` what may wait until a piece of its output was told.
    """

    manifest: Manifest
    prepare: Prepare
    spawn: Spawn
    environ: Mapping[str, str]
    settings: WorkerSettings
    log: WorkerLog
    scales: Scales
    afterwards: Afterwards


class LifeOwner(Protocol[M]):
    """What a life tells its owner."""

    def received(self, life: "Life[M]", message: M) -> None:
        """A message that is neither a greeting nor a beat."""

    def over(self, life: "Life[M]", what: str) -> None:
        """Its process is gone, wanted or not; once. `what` ends a sentence about it: "died (exit code 3)"."""


class Life(Generic[M]):
    """Satisfies `ChannelOwner` and `OnScales`. `who` begins a sentence about it; `quiet` tells when silence means
    nothing. `error` is what its end means for whoever used it; `weight` its bytes when it was weighed last.
    """

    def __init__(
        self,
        owner: LifeOwner[M],
        recipe: Recipe,
        who: str,
        decode: Callable[[bytes], M],
        clock: Clock,
        quiet: Callable[[], bool] = lambda: False,
    ) -> None:
        self.channel = Channel(self, recipe.log, decode, clock.time, recipe.afterwards)
        self.error: type[ModuleError] = WorkerCrashed
        self.weight: int | None = None
        self._owner = owner
        self._recipe = recipe
        self._who = who
        self._clock = clock
        self._quiet = quiet
        self._greeting = Greeting(recipe.manifest.name, who, self.channel)
        self._kill_reason: str | None = None
        self._over = False
        self._watch: Timer | None = None
        self._watch_due = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        """Its pid while it has a process."""
        return self.channel.child.pid if self.channel.attached else None

    @property
    def is_limited(self) -> bool:
        """A limit on memory is for workers."""
        return self._recipe.manifest.declared.kind == "worker"

    async def begin(self, on_progress: OnProgress, first: ToGateway | None = None) -> Ready | GatewayReady:
        """Prepare, spawn, send `first`, wait for the greeting, and watch from then on.

        Raises: ModuleError, OSError; then, and where it was cancelled, a process may be left: `stop` or `end` it.
        """
        recipe = self._recipe
        environment = await recipe.prepare(recipe.manifest, on_progress)
        on_progress(LoadProgress("worker", "starting", None))
        argv = [str(environment.python), "-I", str(environment.seed)]
        nice = recipe.settings.nice if self.is_limited else 0
        self.channel.attach(await recipe.spawn(argv, recipe.environ, self.channel, nice))
        if not self._over:
            recipe.scales.put(self)
        if first is not None:
            self.channel.send(first)
        greeting = await self._greeting.wait(recipe.settings.start_s)
        recipe.scales.put(self)
        self._look_later()
        return greeting

    def refuse(self, error: ModuleError) -> None:
        """It said that it cannot start: `begin` ends with that. One that had greeted before is ended."""
        if not self._greeting.refused(error):
            self.kill(f"was ended because it said: {error.message}")

    async def stop(self) -> None:
        """End it in good order, as far as it goes along. Cancelling it leaves the ladder where it is."""
        self._stop_watching()
        if self.channel.attached and not self.channel.ended:
            await self.channel.child.stop()

    async def end(self) -> None:
        """End it now."""
        self._stop_watching()
        if self.channel.attached and not self.channel.ended:
            await self.channel.child.kill()

    def too_heavy(self, why: str) -> None:
        """End it for the memory it uses."""
        self.kill(f"was ended because {why}", OutOfMemory)

    def kill(self, why: str, error: type[ModuleError] = WorkerCrashed) -> None:
        """End it now, in the background; `why` is what its owner hears: "was ended because ..."."""
        if self._over or self._kill_reason is not None or not self.channel.attached:
            return
        self.error = error
        self._kill_reason = why
        task = asyncio.get_running_loop().create_task(self._kill())
        self._tasks.add(task)
        task.add_done_callback(self._killed)

    async def _kill(self) -> None:
        await self.channel.child.kill()
        # A process that even SIGKILL does not end (stuck in the kernel) is given up: this is its end.
        self.gone(-signal.SIGTERM)

    def _killed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s could not be ended", self._who, exc_info=error)

    def _look_later(self) -> None:
        self._watch_due = self._clock.time() + WATCH_INTERVAL_S
        self._watch = self._clock.call_later(WATCH_INTERVAL_S, self._look)

    def _look(self) -> None:
        if self._over:
            return
        now = self._clock.time()
        late = now - self._watch_due > LATE_S
        self._look_later()
        if late or self._quiet():
            self.channel.last_heard = now
        elif now - self.channel.last_heard > SILENCE_S:
            self.kill(f"was ended because it gave no sign of life for {SILENCE_S:g} s")

    def _stop_watching(self) -> None:
        self._recipe.scales.take(self)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    # What the channel tells.

    def received(self, message: M) -> None:
        """One message."""
        match message:
            case Ready() | GatewayReady():
                self._greeting.said(message)
            case Beat():
                pass
            case _:
                self._owner.received(self, message)

    def broken(self, why: str) -> None:
        """It broke the rules of the wire."""
        self.kill(f"was ended because it wrote {why}")

    def gone(self, returncode: int) -> None:
        """The process has ended."""
        if self._over:
            return
        self._over = True
        self._stop_watching()
        what = self._kill_reason or manner_of_death(returncode)
        if self.error is OutOfMemory:
            self._greeting.refused(OutOfMemory(f"{self._who} {what}{self.channel.details()}"))
        self._greeting.died(what)
        self._owner.over(self, what)
