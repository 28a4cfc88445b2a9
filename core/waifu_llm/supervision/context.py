"""One distinct set of load fields in one worker: who holds it, whether the worker has it, its model list."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final

from waifu_llm.errors import ModuleError, ProviderDown
from waifu_llm.supervision.channel import Channel
from waifu_llm.supervision.exchange import Exchange
from waifu_llm.supervision.fields import LoadPlan
from waifu_llm.supervision.jobs import LoadProgress, ModelList
from waifu_llm.supervision.life import OnProgress
from waifu_llm.supervision.state import WorkerState
from waifu_llm.supervision.supervisor import Supervisor
from waifu_worker.wire import Done, FromWorker, Load, Models, Progress

MODELS_FRESH_S: Final = 60.0
MODELS_WAIT_S: Final = 0.7


class Context:
    """A load that clients share: it satisfies `jobs.Loaded` and stays valid across stops, crashes and unloads.

    `holders` are the connections that hold it, each with the order of its load that was asked for last. One that is
    `kept` was prewarmed: it does not end since nobody uses it.
    """

    def __init__(self, ctx: int, plan: LoadPlan, supervisor: Supervisor) -> None:
        self.ctx = ctx
        self.plan = plan
        self.supervisor = supervisor
        self.holders: dict[Hashable, int] = {}
        self.running = 0
        self.kept = False
        self.warning: str | None = None
        self._models = ModelList(())
        self._models_read = 0.0
        self._loop = asyncio.get_running_loop()
        self._loaded_on: Channel[FromWorker] | None = None
        self._loading: asyncio.Task[None] | None = None
        self._loading_since = 0
        self._loading_by_load = False
        self._refreshing: asyncio.Task[None] | None = None
        self._waiters: Counter[asyncio.Task[None]] = Counter()
        self._listeners: set[OnProgress] = set()

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self.plan.manifest.name

    @property
    def in_use(self) -> bool:
        """Whether anybody holds it, waits for it or generates with it."""
        return bool(self.holders) or bool(self._waiters) or self.running > 0

    @property
    def is_ready(self) -> bool:
        """Whether the process that is ready now has this context."""
        return self._loaded_on is not None and self._loaded_on is self.supervisor.channel

    def forget(self) -> None:
        """Have the worker drop it; who uses it again loads it again."""
        self._loaded_on = None
        self.supervisor.forget_context(self.ctx)

    async def ensure(self, *, by_load: bool, on_progress: OnProgress | None = None) -> None:
        """Return when the worker is ready and has this context.

        Cancelling it is safe: a build and a start go on; the load itself stops when nobody waits any more.
        Raises: ModuleError.
        """
        if self.is_ready:
            return
        if on_progress is not None:
            self._listeners.add(on_progress)
        # One that began before a stop ends with it, perhaps only when that is over: who comes later is not in it.
        is_doomed = self._loading_since != self.supervisor.stops
        # Only a load starts what failed again: a generation that came before it is about to hear of the failure.
        is_doomed |= by_load and not self._loading_by_load and self.supervisor.state is WorkerState.FAILED
        if self._loading is None or self._loading.done() or is_doomed:
            self._loading_since = self.supervisor.stops
            self._loading_by_load = by_load
            self._loading = self._loop.create_task(self._load(by_load=by_load))
            # All who wait may leave before its end.
            self._loading.add_done_callback(_look_at)
        loading = self._loading
        self._waiters[loading] += 1
        try:
            await asyncio.shield(loading)
        except asyncio.CancelledError:
            # Who still has to hear the end of a load before this one does not wait for this one.
            if self._waiters[loading] == 1 and not loading.done():
                loading.cancel()
                if self._loading is loading:
                    self._loading = None
            raise
        finally:
            self._waiters[loading] -= 1
            self._waiters += Counter()
            if on_progress is not None:
                self._listeners.discard(on_progress)

    async def _load(self, *, by_load: bool) -> None:
        await self.supervisor.ensure_ready(by_load=by_load, on_progress=self._tell)
        channel = self.supervisor.channel
        message = Load(
            id=0,
            ctx=self.ctx,
            api_key=self.plan.api_key,
            options=dict(self.plan.options),
            preload_model_id=self.plan.preload_model_id,
        )
        self._tell(LoadProgress("provider", "loading the provider", None))
        limit_s = self.supervisor.settings.key_check_s
        try:
            async with asyncio.timeout(limit_s) as limit:
                done = await self._ask(message, self._relay(limit))
        except TimeoutError as error:
            raise ProviderDown(
                f"{self.plan.manifest.declared.title} did not answer the credential check within {limit_s:g} s; "
                "is the network up, is base_url right?"
            ) from error
        self.warning = done.warning
        self._keep(done)
        self._loaded_on = channel

    def _relay(self, limit: asyncio.Timeout) -> Callable[[Progress], None]:
        def relay(progress: Progress) -> None:
            if progress.stage == "model" and not limit.expired():
                limit.reschedule(None)  # a preload or a pull may take any time
            self._tell(LoadProgress(progress.stage, progress.detail, progress.fraction))

        return relay

    def _tell(self, progress: LoadProgress) -> None:
        for listener in tuple(self._listeners):
            listener(progress)

    def _keep(self, done: Done) -> None:
        self._models = ModelList(done.models or (), done.warning)
        self._models_read = self._loop.time()

    async def models(self) -> ModelList:
        """The list read last; read again where it is old, if the provider answers in time. Cancelling is safe."""
        if self.is_ready and self._loop.time() - self._models_read > MODELS_FRESH_S:
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = self._loop.create_task(self._refresh())
            await asyncio.wait({self._refreshing}, timeout=MODELS_WAIT_S)
        return self._models

    async def _refresh(self) -> None:
        # The old list stands where the provider cannot be asked now; the next call tries again.
        with contextlib.suppress(ModuleError, TimeoutError):
            async with asyncio.timeout(self.supervisor.settings.key_check_s):
                self._keep(await self._ask(Models(id=0, ctx=self.ctx)))

    async def _ask(self, message: Load | Models, on_progress: Callable[[Progress], None] | None = None) -> Done:
        """Submit a request and wait for its end. Cancelling it cancels the request. Raises: ModuleError."""
        future: asyncio.Future[Done] = self._loop.create_future()

        def ended(end: Done | ModuleError) -> None:
            if future.done():
                return
            if isinstance(end, ModuleError):
                future.set_exception(end)
            else:
                future.set_result(end)

        exchange = Exchange(ended, is_load=isinstance(message, Load))
        if on_progress is not None:
            exchange.progress = on_progress
        self.supervisor.submit(exchange, message)
        try:
            return await future
        except asyncio.CancelledError:
            self.supervisor.cancel(exchange)
            raise

    async def close(self) -> None:
        """End what this context still does. Called once, when the pool closes."""
        tasks = [task for task in (self._loading, self._refreshing) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _look_at(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
