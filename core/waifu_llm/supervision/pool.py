"""Owns all workers: which load uses which, who holds what, who generates now and who waits."""

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Hashable, Mapping
from typing import Final, Protocol

import msgspec

from waifu_client.protocol import EnvironmentStats, ProviderDetails, WorkerStats
from waifu_llm.catalog import Catalog, KeyNeed, Manifest
from waifu_llm.config import Settings
from waifu_llm.environment.model import BuildProgress, Environment, EnvironmentState, EnvironmentStatus
from waifu_llm.errors import Busy, Closing, MissingKey, Unloaded
from waifu_llm.log import WorkerLog
from waifu_llm.paths import Home
from waifu_llm.redaction import Redactor
from waifu_llm.stats import Statistics
from waifu_llm.supervision.addresses import Upstreams
from waifu_llm.supervision.admission import Admission, Answer
from waifu_llm.supervision.afterwards import Afterwards
from waifu_llm.supervision.context import Context
from waifu_llm.supervision.environ import worker_environ
from waifu_llm.supervision.fields import LoadPlan, OwnSide, plan_load
from waifu_llm.supervision.gateway import OnReady
from waifu_llm.supervision.gateways import Gateways
from waifu_llm.supervision.holdings import Holdings
from waifu_llm.supervision.jobs import Generation, Job, Loaded, LoadFields, LoadProgress, ModelList, Sink
from waifu_llm.supervision.life import OnProgress, Recipe, Spawn
from waifu_llm.supervision.own_keys import OwnKeys
from waifu_llm.supervision.prewarming import Memory, Prewarming
from waifu_llm.supervision.run import Run
from waifu_llm.supervision.scales import Scales, Weigh
from waifu_llm.supervision.state import WorkerState
from waifu_llm.supervision.supervisor import Supervisor
from waifu_llm.supervision.survey import provider_details, weigh

_PUSHED_BACK: Final = Busy(
    "the queue is full, and this client had the most in it: this request makes room for another's; try again later",
    retry_after_ms=1000,
).failure()

_log = logging.getLogger(__name__)


class Environments(Protocol):
    """What the pool needs of `environment.store`."""

    def status(self, manifest: Manifest) -> EnvironmentStatus:
        """Cheap: a few stats."""

    async def ensure(self, manifest: Manifest, on_progress: Callable[[BuildProgress], None]) -> Environment:
        """Raises: InstallFailed. Cancelling it is safe: the build goes on."""
        ...


class PoolMeans(msgspec.Struct, frozen=True):
    """What a pool works with. `own_key` finds this server's own key; `has_key` tells whether there is one; `own_key`
    and `weigh` are called in a thread, `key_at_hand` is not and looks at no file; `last_used` remembers which provider
    was loaded last.
    """

    catalog: Catalog
    home: Home
    environments: Environments
    spawn: Spawn
    environ: Mapping[str, str]
    own_key: Callable[[Manifest], str | None]
    has_key: Callable[[Manifest], bool]
    redactor: Redactor
    statistics: Statistics
    key_at_hand: Callable[[Manifest], str | None] = lambda manifest: None
    last_used: Memory | None = None
    weigh: Weigh = weigh


class Pool:
    """Satisfies `jobs.PoolInterface`."""

    def __init__(self, settings: Settings, means: PoolMeans) -> None:
        self.afterwards = Afterwards()
        self._settings = settings
        self._with = means
        self._loop = asyncio.get_running_loop()
        self._upstreams = Upstreams.of(settings.server)
        self._digest_key = os.urandom(32)
        self._holdings = Holdings(self._new_supervisor, settings.limits.workers, settings.workers.idle_s)
        self._scales = Scales(settings.workers.memory_mb, means.weigh)
        self._own_keys = OwnKeys(means.own_key)
        self._load_orders = itertools.count(1)
        limits = settings.limits
        self._admission: Admission[Run] = Admission(limits.running, limits.queued, limits.queued_bytes)
        # In their order: taking a queue apart from its front costs nothing, at random it costs its length each time.
        self._runs: dict[Run, None] = {}
        self._closing = False
        wanted = settings.workers
        self._prewarming = Prewarming(wanted.prewarm, means.last_used if wanted.prewarm_last else None, self._warm)
        self._gateways = Gateways(settings, means.catalog, means.home, self._recipe)
        means.redactor.add(self._gateways.token)

    @property
    def last_loaded(self) -> Loaded | None:
        """The load that succeeded last, whoever asked for it."""
        return self._holdings.last

    # Gateways.

    @property
    def gateway_token(self) -> str | None:
        """What the gateways of this run send to the server; None where none is enabled."""
        return self._gateways.token

    def start_gateways(self, url: str, on_ready: OnReady) -> None:
        """Start those that are enabled, once the server listens (see `Gateways.start`)."""
        self._gateways.start(url, on_ready)

    # Loads and who holds them.

    async def load(self, fields: LoadFields, connection: Hashable, on_progress: OnProgress | None = None) -> Loaded:
        """Build, start and load what is needed (see `jobs.PoolInterface`)."""
        if self._closing:
            raise Closing("the module is stopping")
        order = next(self._load_orders)
        manifest = self._with.catalog.worker(fields.provider)
        self._know(fields.api_key)
        plan = await self._plan(manifest, fields)
        context = await self._holdings.context(plan)
        self._know(plan.api_key)  # it may have waited for its place while others came
        try:
            await context.ensure(by_load=True, on_progress=on_progress)
        except BaseException:
            self._holdings.consider_idle(context, at_once=not context.is_ready)
            raise
        self._holdings.hold(context, connection, order)
        self._prewarming.loaded(manifest.name)
        return context

    def prewarm(self) -> None:
        """Start what the settings want warm, in the background, once the server listens."""
        self._prewarming.start()

    async def _warm(self, provider: str) -> None:
        """Load it as a client would that names no fields; where a key is missing only its worker is started."""
        manifest = self._with.catalog.worker(provider)
        if self._holdings.is_full:
            raise Busy("as many workers run as there may be; raise limits.workers")
        try:
            plan = await self._plan(manifest, LoadFields(provider, None, None, {}))
        except MissingKey as error:
            if any(other.manifest.name == provider for other in self._holdings.supervisors):
                return  # a client was quicker
            await self._holdings.start_spare(provider, self._supervisor(manifest))
            _log.info("the worker of %s is started, for a load that brings a key: %s", provider, error.message)
            return
        context = await self._holdings.context(plan)
        try:
            await context.ensure(by_load=True)
            context.kept = True
        finally:
            self._holdings.consider_idle(context, at_once=not context.is_ready)
            if not context.is_ready:
                self._holdings.make_spare(context)
        _log.info("%s is loaded, for whoever asks for it", provider)

    def _know(self, key: str | None) -> None:
        self._with.redactor.seen(key, [context.plan.api_key for context in self._holdings.contexts])

    async def _plan(self, manifest: Manifest, fields: LoadFields) -> LoadPlan:
        own_key = None
        if not fields.api_key and manifest.declared.key.need is not KeyNeed.NONE:
            own_key = self._with.key_at_hand(manifest) or await self._own_keys.of(manifest)
            if self._closing:
                raise Closing("the module is stopping")
        plan = plan_load(
            manifest,
            fields,
            OwnSide(
                self._settings.given.get(manifest.name, {}),
                self._settings.provider.get(manifest.name, {}),
                self._with.environ,
                self._upstreams,
            ),
            own_key=own_key,
            digest_key=self._digest_key,
        )
        self._know(plan.api_key)
        return plan

    def _new_supervisor(self, plan: LoadPlan) -> Supervisor:
        return self._supervisor(plan.manifest, plan.api_key)

    def _supervisor(self, manifest: Manifest, api_key: str | None = None) -> Supervisor:
        statistics = self._with.statistics
        return Supervisor(self._recipe(manifest, api_key), on_restart=lambda: statistics.restarted(manifest.name))

    def _recipe(self, manifest: Manifest, api_key: str | None = None) -> Recipe:
        return Recipe(
            manifest,
            self._prepare,
            self._with.spawn,
            worker_environ(manifest.declared, self._with.environ),
            self._settings.workers,
            WorkerLog(self._with.home.logs / f"{manifest.name}.log", self._with.redactor.including(api_key)),
            self._scales,
            self.afterwards,
        )

    async def _prepare(self, manifest: Manifest, on_progress: OnProgress) -> Environment:
        built = False

        def relay(progress: BuildProgress) -> None:
            nonlocal built
            if not built:
                built = True
                self._with.statistics.built(manifest.name)
            on_progress(LoadProgress("environment", progress.detail, progress.fraction))

        return await self._with.environments.ensure(manifest, relay)

    def release(self, connection: Hashable) -> None:
        """The connection is gone: it holds nothing any more."""
        self._holdings.release(connection)

    # Generations.

    def generate(self, loaded: Loaded, job: Job, connection: Hashable, sink: Sink) -> Generation:
        """Queue or start a generation (see `jobs.PoolInterface`)."""
        assert isinstance(loaded, Context)
        if self._closing:
            raise Closing("the module is stopping")
        run = Run(loaded, job, connection, sink, self._sent, self._finished)
        answer = self._offer(run, job.size)
        loaded.running += 1
        self._holdings.stay(loaded)
        self._runs[run] = None
        if answer is Answer.START:
            run.begin()
        else:
            self._with.statistics.queued(loaded.provider)
        return run

    def _offer(self, run: Run, size: int) -> Answer:
        while (answer := self._admission.offer(run.connection, run, size)) is Answer.FULL:
            other = self._admission.push_back(run.connection, size)
            if other is None:
                raise Busy("too many requests, or too much text, wait already; try again later", retry_after_ms=1000)
            other.fail(_PUSHED_BACK)
            self._forget(other)
        return answer

    def _sent(self, run: Run) -> None:
        self._admission.handed_over(run.connection, run)

    def cancel(self, generation: Generation) -> None:
        """End a generation; its sink hears nothing more."""
        assert isinstance(generation, Run)
        if generation not in self._runs:
            return
        generation.silence()
        self._end(generation)

    def _end(self, run: Run) -> None:
        if self._admission.withdraw(run.connection, run):
            self._forget(run)
        else:
            run.cancel()

    def _finished(self, run: Run) -> None:
        self._forget(run)
        following = self._admission.leave(run.connection, run)
        if following is not None:
            # Not from inside the end of another: a queue that fails at once would nest as deep as it is long.
            self._loop.call_soon(self._begin, following)

    def _begin(self, run: Run) -> None:
        if run.silenced:
            self._finished(run)
        else:
            run.begin()

    def _forget(self, run: Run) -> None:
        del self._runs[run]
        run.context.running -= 1
        self._holdings.consider_idle(run.context)

    # What else clients ask.

    async def models(self, loaded: Loaded) -> ModelList:
        """The model list, within 800 ms."""
        assert isinstance(loaded, Context)
        return await loaded.models()

    def providers(self) -> dict[str, ProviderDetails]:
        """Every worker there is."""
        ready = (other for other in self._holdings.supervisors if other.state is WorkerState.READY)
        running = {supervisor.manifest.name for supervisor in ready}
        return {
            manifest.name: provider_details(
                manifest,
                installed=self._with.environments.status(manifest).state is EnvironmentState.READY,
                running=manifest.name in running,
                has_key=self._with.has_key(manifest),
            )
            for manifest in self._with.catalog.workers()
        }

    def workers(self) -> list[WorkerStats]:
        """The workers that were started and not forgotten yet, and the gateways."""
        return [*(self._worker(supervisor) for supervisor in self._holdings.supervisors), *self._gateways.stats()]

    def _worker(self, supervisor: Supervisor) -> WorkerStats:
        contexts = list(self._holdings.on(supervisor))
        running = sum(context.running for context in contexts)
        queued = sum(1 for run in self._runs if run.context in contexts and not run.begun)
        since = supervisor.ready_since
        return WorkerStats(
            provider=supervisor.manifest.name,
            state=supervisor.state,
            pid=supervisor.pid,
            memory_bytes=supervisor.weight,
            running=running - queued,
            queued=queued,
            uptime_s=None if since is None else round(self._loop.time() - since, 3),
            restarts=supervisor.restarts,
            memory_limit_bytes=self._scales.limit or None,
        )

    def environments(self) -> list[EnvironmentStats]:
        """The environment of every worker there is, and of the gateways that are installed or enabled."""
        status = self._with.environments.status
        found = [
            EnvironmentStats(name=manifest.name, state=status(manifest).state) for manifest in self._with.catalog.all()
        ]
        workers = {manifest.name for manifest in self._with.catalog.workers()}
        wanted = workers | self._gateways.enabled
        return [entry for entry in found if entry.name in wanted or entry.state != EnvironmentState.MISSING]

    async def unload(self, provider: str) -> None:
        """Stop the provider's workers; what they generate or have queued ends with INTERRUPT."""
        self._with.catalog.worker(provider)
        error = Unloaded(f"{provider} was unloaded")
        for run in tuple(self._runs):
            if run.context.provider == provider:
                run.fail(error.failure())
                self._end(run)
        supervisors = [other for other in self._holdings.supervisors if other.manifest.name == provider]
        await asyncio.gather(*(supervisor.stop(error) for supervisor in supervisors))

    async def close(self) -> None:
        """Stop everything (see `jobs.PoolInterface`)."""
        self._closing = True
        error = Closing("the module is stopping")
        # Before the first wait: a build that ends meanwhile, since the module stops, is no failure of a gateway's.
        gateways = self._gateways.stop()
        self._holdings.begin_closing()
        self._own_keys.close()
        for run in tuple(self._runs):
            run.fail(error.failure())
            self._end(run)
        await asyncio.gather(self._prewarming.close(), self._holdings.close(error), gateways)
