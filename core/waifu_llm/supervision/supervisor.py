"""Owns one worker: its process, its state, and the requests it has in its hands.

Everything runs on one event loop. The state changes in `_move` alone; whoever needs a ready worker calls
`ensure_ready` and never looks at the state first, so that no waiter is stranded when a stop races a start.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine

import msgspec

from waifu_llm.errors import Busy, ModuleError, StartFailed, Unloaded, failure_of
from waifu_llm.supervision.channel import Channel, ChannelFull
from waifu_llm.supervision.exchange import Exchange, Exchanges
from waifu_llm.supervision.greeting import LATE_S
from waifu_llm.supervision.jobs import LoadProgress
from waifu_llm.supervision.life import Life, OnProgress, Recipe
from waifu_llm.supervision.state import CrashLimit, WorkerState, check_move
from waifu_worker.framing import LineTooLong, decode_from_worker
from waifu_worker.wire import (
    Cancel,
    Chunk,
    Done,
    Failed,
    FromWorker,
    Generate,
    Load,
    Models,
    Progress,
    ToWorker,
    Unload,
)

_log = logging.getLogger(__name__)


class Supervisor:
    """One worker, started by its recipe as often as it is needed."""

    def __init__(self, recipe: Recipe, on_restart: Callable[[], None]) -> None:
        self.manifest = recipe.manifest
        self.settings = recipe.settings
        self.restarts = 0
        self.stops = 0
        self.ready_since: float | None = None
        self._recipe = recipe
        self._on_restart = on_restart
        self._loop = asyncio.get_running_loop()
        self._state = WorkerState.STOPPED
        self._crashes = CrashLimit(self.settings.crashes, self.settings.crash_window_s)
        self._life: Life[FromWorker] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: set[OnProgress] = set()
        self._exchanges = Exchanges()
        self._failure: ModuleError = Unloaded(f"{self.manifest.name} is not running")
        self._started_before = False

    # What others may see.

    @property
    def state(self) -> WorkerState:
        """A snapshot; to get a ready worker call `ensure_ready`."""
        return self._state

    @property
    def channel(self) -> Channel[FromWorker] | None:
        """The wire to the process that is ready now, else None: another process is another channel."""
        return self._life.channel if self._life is not None and self._state is WorkerState.READY else None

    @property
    def pid(self) -> int | None:
        """The worker's pid while it has a process."""
        return self._life.pid if self._life is not None else None

    @property
    def weight(self) -> int | None:
        """The memory that it and its children used when they were weighed last, bytes."""
        return self._life.weight if self._life is not None else None

    def _move(self, state: WorkerState) -> None:
        check_move(self._state, state)
        _log.info("%s: %s -> %s", self.manifest.name, self._state, state)
        self._state = state

    def learn(self, key: str | None) -> None:
        """This key goes to it from now on: its log takes it out, however short it is."""
        self._recipe.log.learn(key)

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
            self._life = Life(
                self,
                self._recipe,
                f"the worker of {self.manifest.name}",
                decode_from_worker,
                self._loop,
                quiet=lambda: self._exchanges.loading,
            )
            await self._life.begin(self._tell)
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
        life, self._life = self._life, None
        if life is not None:
            await life.end()
        self._failure = failure
        self._move(WorkerState.FAILED)

    def _become_ready(self) -> None:
        self._exchanges.delivered = False
        self._move(WorkerState.READY)
        self.ready_since = self._loop.time()

    def _tell(self, progress: LoadProgress) -> None:
        for listener in tuple(self._listeners):
            listener(progress)

    # What its life tells.

    def received(self, life: Life[FromWorker], message: FromWorker) -> None:
        """One message of a worker; one from a process that was replaced is dropped."""
        if life is not self._life:
            return
        match message:
            case Chunk():
                known = self._exchanges.chunk(message)
            case Done() | Failed():
                known = self._exchanges.end(message)
            case Progress():
                known = self._exchanges.progress(message)
            case _:
                return
        if not known:
            life.channel.stray(message.id)

    def over(self, life: Life[FromWorker], what: str) -> None:
        """The process has ended; a start and a stop under way hear of it by themselves."""
        if life is self._life and self._state is WorkerState.READY:
            self._crashed(life, what)

    def _crashed(self, life: Life[FromWorker], what: str) -> None:
        message = f"the worker of {self.manifest.name} {what}{life.channel.details()}"
        _log.warning("%s", message)
        self._disconnect()
        error = life.error
        if self._crashes.died(self._loop.time(), delivered=self._exchanges.delivered):
            self._failure = error(f"{message}; the restart limit is used up: load {self.manifest.name} again")
            self._move(WorkerState.FAILED)
        else:
            self._failure = error(message)
            self._move(WorkerState.STOPPED)
        self._exchanges.fail_all(error(message))

    def _disconnect(self) -> None:
        self._life = None
        self.ready_since = None

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

    def _send(self, channel: Channel[FromWorker], message: ToWorker) -> None:
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
        life = self._life
        if exchange not in self._exchanges or exchange.cancelled or life is None:
            return
        exchange.cancelled = True
        try:
            self._send(life.channel, Cancel(id=exchange.id))
        except Busy:
            self._cancel_ignored(life, exchange)
            return
        self._await_cancel(life, exchange)

    def _await_cancel(self, life: Life[FromWorker], exchange: Exchange) -> None:
        due = self._loop.time() + self.settings.cancel_s
        self._loop.call_later(self.settings.cancel_s, self._cancel_over, life, exchange, due)

    def _cancel_over(self, life: Life[FromWorker], exchange: Exchange, due: float) -> None:
        if self._loop.time() - due > LATE_S:
            # Its answer may lie in the pipe since before the machine slept.
            self._await_cancel(life, exchange)
        else:
            self._cancel_ignored(life, exchange)

    def _cancel_ignored(self, life: Life[FromWorker], exchange: Exchange) -> None:
        if exchange in self._exchanges and life is self._life:
            life.kill(f"was ended because it did not stop a request within {self.settings.cancel_s:g} s")

    def forget_context(self, ctx: int) -> None:
        """Tell the worker that nobody uses a context any more."""
        if (channel := self.channel) is not None:
            # One that does not read its input forgets nothing; what it is asked next fails with that.
            with contextlib.suppress(Busy):
                self._send(channel, Unload(ctx=ctx))

    # Ending.

    def stop(self, error: ModuleError) -> Coroutine[None, None, None]:
        """Stop the worker; its requests end with `error`. Joins a stop under way. Cancelling it is safe.

        It begins with the call, not with the first await: what is asked of the worker after it belongs to the next one.
        """
        self._exchanges.fail_all(error)
        self.stops += 1
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
        if self._life is not None:
            await self._life.stop()
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
