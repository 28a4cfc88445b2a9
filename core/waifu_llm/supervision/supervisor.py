"""Owns one worker: its process, its state, and the requests it has in its hands.

Everything runs on one event loop. The state changes in `_move` alone; whoever needs a ready worker calls
`ensure_ready` and never looks at the state first, so that no waiter is stranded when a stop races a start.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from waifu_llm.catalog import Manifest
from waifu_llm.config import WorkerSettings
from waifu_llm.environment.model import Environment
from waifu_llm.errors import Busy, ModuleError, StartFailed, Unloaded, WorkerCrashed, failure_of
from waifu_llm.log import WorkerLog
from waifu_llm.supervision.channel import Channel, ChannelFull
from waifu_llm.supervision.exchange import Exchange, Exchanges
from waifu_llm.supervision.greeting import Greeting, cause_of_death
from waifu_llm.supervision.jobs import LoadProgress
from waifu_llm.supervision.process import Child, ChildEvents
from waifu_llm.supervision.state import CrashLimit, WorkerState, check_move
from waifu_worker.framing import LineTooLong
from waifu_worker.wire import (
    Beat,
    Cancel,
    Chunk,
    Done,
    Failed,
    FromWorker,
    Generate,
    Load,
    Models,
    Progress,
    Ready,
    ToWorker,
    Unload,
)

_log = logging.getLogger(__name__)

SILENCE_S: Final = 30.0
WATCH_INTERVAL_S: Final = 5.0

OnProgress = Callable[[LoadProgress], None]
Prepare = Callable[[Manifest, OnProgress], Awaitable[Environment]]


class Spawn(Protocol):
    """Starts a worker process; `Processes.spawn`, or a fake of the tests."""

    async def __call__(self, argv: Sequence[str], env: Mapping[str, str], events: ChildEvents) -> Child:
        """Raises: OSError."""
        ...


class Supervisor:
    """One worker. `prepare` gives its environment; `environ` is what its process may see."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        prepare: Prepare,
        spawn: Spawn,
        environ: Mapping[str, str],
        settings: WorkerSettings,
        log: WorkerLog,
        on_restart: Callable[[], None],
    ) -> None:
        self.manifest = manifest
        self.settings = settings
        self.restarts = 0
        self.ready_since: float | None = None
        self._prepare = prepare
        self._spawn = spawn
        self._environ = environ
        self._log = log
        self._on_restart = on_restart
        self._loop = asyncio.get_running_loop()
        self._state = WorkerState.STOPPED
        self._crashes = CrashLimit(settings.crashes, settings.crash_window_s)
        self._channel: Channel | None = None
        self._greeting: Greeting | None = None
        self._starting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: asyncio.TimerHandle | None = None
        self._listeners: set[OnProgress] = set()
        self._exchanges = Exchanges()
        self._failure: ModuleError = Unloaded(f"{manifest.name} is not running")
        self._kill_reason: str | None = None
        self._started_before = False

    # What others may see.

    @property
    def state(self) -> WorkerState:
        """A snapshot; to get a ready worker call `ensure_ready`."""
        return self._state

    @property
    def channel(self) -> Channel | None:
        """The wire to the process that is ready now, else None: another process is another channel."""
        return self._channel if self._state is WorkerState.READY else None

    @property
    def pid(self) -> int | None:
        """The worker's pid while it has a process."""
        return self._channel.child.pid if self._channel is not None and self._channel.attached else None

    def _move(self, state: WorkerState) -> None:
        check_move(self._state, state)
        _log.info("%s: %s -> %s", self.manifest.name, self._state, state)
        self._state = state

    # Start.

    async def ensure_ready(self, *, by_load: bool, on_progress: OnProgress | None = None) -> None:
        """Return when the worker is ready, starting it where needed.

        A worker that failed is started again by a load only. Cancelling it is safe: the start goes on.
        Raises: ModuleError.
        """
        if on_progress is not None:
            self._listeners.add(on_progress)
        try:
            waited = False
            while self._state is not WorkerState.READY:
                match self._state:
                    case WorkerState.STOPPING:
                        assert self._stopping is not None
                        await asyncio.wait({self._stopping})
                        continue
                    case WorkerState.STOPPED | WorkerState.FAILED:
                        if waited or (self._state is WorkerState.FAILED and not by_load):
                            raise self._failure.with_traceback(None)
                        self._begin_start()
                    case WorkerState.STARTING:
                        pass
                assert self._starting is not None
                await asyncio.wait({self._starting})
                waited = True
        finally:
            if on_progress is not None:
                self._listeners.discard(on_progress)

    def _begin_start(self) -> None:
        if self._state is WorkerState.FAILED:
            self._crashes.reset()
        self._move(WorkerState.STARTING)
        if self._started_before:
            self.restarts += 1
            self._on_restart()
        self._started_before = True
        self._starting = self._own(self._start())

    async def _start(self) -> None:
        try:
            await self._start_process()
        except ModuleError as error:
            failure: ModuleError = error
        except OSError as error:
            failure = StartFailed(f"the worker of {self.manifest.name} could not be started: {error}")
        except Exception as error:
            # A bug, but whoever waits must hear of it: a start without an end would keep them for ever.
            _log.exception("the start of the worker %s failed", self.manifest.name)
            failure = StartFailed(failure_of(error).message)
        else:
            self._become_ready()
            return
        channel, self._channel = self._channel, None
        if channel is not None and channel.attached:
            await channel.child.kill()
        self._failure = failure
        self._move(WorkerState.FAILED)

    async def _start_process(self) -> None:
        environment = await self._prepare(self.manifest, self._tell)
        self._tell(LoadProgress("worker", "starting", None))
        self._kill_reason = None
        channel = self._channel = Channel(self, self._log, self._loop.time)
        self._greeting = Greeting(self.manifest.name, channel)
        argv = [str(environment.python), "-I", str(environment.seed)]
        channel.attach(await self._spawn(argv, self._environ, channel))
        await self._greeting.wait(self.settings.start_s)

    def _become_ready(self) -> None:
        self._exchanges.delivered = False
        self._move(WorkerState.READY)
        self.ready_since = self._loop.time()
        self._watch = self._loop.call_later(WATCH_INTERVAL_S, self._look)

    def _tell(self, progress: LoadProgress) -> None:
        for listener in tuple(self._listeners):
            listener(progress)

    # What the channel tells.

    def received(self, channel: Channel, message: FromWorker) -> None:
        """One message of a worker; one from a process that was replaced is dropped."""
        if channel is not self._channel:
            return
        match message:
            case Chunk():
                self._exchanges.chunk(message)
            case Done() | Failed():
                self._exchanges.end(message)
            case Progress():
                self._exchanges.progress(message)
            case Ready():
                if self._greeting is not None:
                    self._greeting.said(message)
            case Beat():
                pass

    def broken(self, channel: Channel, why: str) -> None:
        """The worker broke the rules of the wire."""
        self._kill(channel, f"was ended because it wrote {why}")

    def gone(self, channel: Channel, returncode: int) -> None:
        """The process has ended."""
        if channel is not self._channel:
            return
        what = self._kill_reason or f"died ({cause_of_death(returncode)})"
        if self._state is WorkerState.READY:
            self._crashed(channel, what)
        elif self._greeting is not None:
            self._greeting.died(what)

    def _crashed(self, channel: Channel, what: str) -> None:
        message = f"the worker of {self.manifest.name} {what}{channel.details()}"
        _log.warning("%s", message)
        self._disconnect()
        if self._crashes.died(self._loop.time(), delivered=self._exchanges.delivered):
            self._failure = WorkerCrashed(f"{message}; the restart limit is used up: load {self.manifest.name} again")
            self._move(WorkerState.FAILED)
        else:
            self._failure = WorkerCrashed(message)
            self._move(WorkerState.STOPPED)
        self._exchanges.fail_all(WorkerCrashed(message))

    def _disconnect(self) -> None:
        self._channel = None
        self.ready_since = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    # Requests.

    def submit(self, exchange: Exchange, message: Load | Models | Generate) -> None:
        """Give a ready worker a request, under an id of its own; its end reaches `exchange.ended`.

        Raises: ModuleError where it cannot be sent; then `ended` is not called.
        """
        channel = self.channel
        if channel is None:
            raise self._failure.with_traceback(None)
        self._send(channel, msgspec.structs.replace(message, id=self._exchanges.number(exchange)))
        self._exchanges.sent(exchange)

    def _send(self, channel: Channel, message: ToWorker) -> None:
        try:
            channel.send(message)
        except ChannelFull as error:
            raise Busy(f"the worker of {self.manifest.name} does not read its input") from error
        except LineTooLong as error:
            raise ModuleError(f"this request is too large for a worker: {error}") from error

    def cancel(self, exchange: Exchange) -> None:
        """Tell the worker to end a request; it is killed where it does not within `cancel_s`.

        `exchange.ended` still comes, when the request has really ended.
        """
        channel = self._channel
        if exchange not in self._exchanges or exchange.cancelled or channel is None:
            return
        exchange.cancelled = True
        try:
            self._send(channel, Cancel(id=exchange.id))
        except Busy:
            self._cancel_ignored(channel, exchange)
            return
        self._loop.call_later(self.settings.cancel_s, self._cancel_ignored, channel, exchange)

    def _cancel_ignored(self, channel: Channel, exchange: Exchange) -> None:
        if exchange in self._exchanges and channel is self._channel:
            self._kill(channel, f"was ended because it did not stop a request within {self.settings.cancel_s:g} s")

    def forget_context(self, ctx: int) -> None:
        """Tell the worker that nobody uses a context any more."""
        if (channel := self.channel) is not None:
            # One that does not read its input forgets nothing; what it is asked next fails with that.
            with contextlib.suppress(Busy):
                self._send(channel, Unload(ctx=ctx))

    # Watching and ending.

    def _look(self) -> None:
        channel = self.channel
        if channel is None:
            return
        self._watch = self._loop.call_later(WATCH_INTERVAL_S, self._look)
        if self._exchanges.loading:
            channel.last_heard = self._loop.time()
        elif self._loop.time() - channel.last_heard > SILENCE_S:
            self._kill(channel, f"was ended because it gave no sign of life for {SILENCE_S:g} s")

    def _kill(self, channel: Channel, why: str) -> None:
        if channel is not self._channel or self._kill_reason is not None or not channel.attached:
            return
        self._kill_reason = why
        self._own(self._kill_process(channel))

    async def _kill_process(self, channel: Channel) -> None:
        await channel.child.kill()
        # A process that even SIGKILL does not end (stuck in the kernel) is given up: its requests end here.
        self.gone(channel, -signal.SIGTERM)

    def stop(self, error: ModuleError) -> Coroutine[None, None, None]:
        """Stop the worker; its requests end with `error`. Joins a stop under way. Cancelling it is safe.

        It begins with the call, not with the first await: what is asked of the worker after it belongs to the next one.
        """
        self._exchanges.fail_all(error)
        if self._state in {WorkerState.STARTING, WorkerState.READY}:
            self._failure = error
            self._move(WorkerState.STOPPING)
            if self._starting is not None:
                # At once: a start that had its greeting already would still become ready.
                self._starting.cancel()
            self._stopping = self._own(self._stop())
        elif self._state is WorkerState.FAILED:
            self._move(WorkerState.STOPPED)
        return self._stopped()

    async def _stopped(self) -> None:
        if self._state is WorkerState.STOPPING:
            assert self._stopping is not None
            await asyncio.wait({self._stopping})

    async def _stop(self) -> None:
        if self._starting is not None and not self._starting.done():
            await asyncio.wait({self._starting})
        channel = self._channel
        if channel is not None and channel.attached:
            await channel.child.stop()
        self._disconnect()
        self._move(WorkerState.STOPPED)

    def _own(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._disown)
        return task

    def _disown(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a task of the worker %s failed", self.manifest.name, exc_info=error)
