"""Owns all workers: which load uses which, who holds what, who generates now and who waits."""

import asyncio
import itertools
import logging
import secrets
from collections.abc import Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from typing import Protocol

from waifu_client.protocol import EnvironmentStats, ProviderDetails, WorkerStats
from waifu_llm.catalog import Catalog, KeyNeed, Manifest
from waifu_llm.config import Settings
from waifu_llm.environment.model import BuildProgress, Environment, EnvironmentState, EnvironmentStatus
from waifu_llm.errors import Busy, Closing, Unloaded
from waifu_llm.log import WorkerLog
from waifu_llm.paths import Home
from waifu_llm.redaction import Redactor
from waifu_llm.stats import Statistics
from waifu_llm.supervision.addresses import Upstreams
from waifu_llm.supervision.admission import Admission, Answer
from waifu_llm.supervision.context import Context
from waifu_llm.supervision.environ import worker_environ
from waifu_llm.supervision.fields import LoadPlan, OwnSide, plan_load
from waifu_llm.supervision.gateway import OnReady
from waifu_llm.supervision.gateways import Gateways
from waifu_llm.supervision.jobs import Generation, Job, Loaded, LoadFields, LoadProgress, ModelList, Sink
from waifu_llm.supervision.life import OnProgress, Recipe, Spawn
from waifu_llm.supervision.run import Run
from waifu_llm.supervision.state import WorkerState
from waifu_llm.supervision.supervisor import Supervisor
from waifu_llm.supervision.survey import provider_details, resident_bytes

_log = logging.getLogger(__name__)


class Environments(Protocol):
    """What the pool needs of `environment.store`."""

    def status(self, manifest: Manifest) -> EnvironmentStatus:
        """Cheap: a few stats."""

    async def ensure(self, manifest: Manifest, on_progress: Callable[[BuildProgress], None]) -> Environment:
        """Raises: InstallFailed. Cancelling it is safe: the build goes on."""
        ...


@dataclass(frozen=True, slots=True)
class PoolMeans:
    """What a pool works with. `own_key` finds this server's own key; `has_key` tells whether there is one."""

    catalog: Catalog
    home: Home
    environments: Environments
    spawn: Spawn
    environ: Mapping[str, str]
    own_key: Callable[[Manifest], str | None]
    has_key: Callable[[Manifest], bool]
    redactor: Redactor
    statistics: Statistics


class Pool:
    """Satisfies `jobs.PoolInterface`."""

    def __init__(self, settings: Settings, means: PoolMeans) -> None:
        self._settings = settings
        self._with = means
        self._loop = asyncio.get_running_loop()
        self._upstreams = Upstreams.of(settings.server)
        self._digest_key = secrets.token_bytes(32)
        self._supervisors: dict[str, Supervisor] = {}
        self._contexts: dict[tuple[str, str], Context] = {}
        self._ctx_ids = itertools.count(1)
        self._load_orders = itertools.count(1)
        self._admission: Admission[Run] = Admission(settings.limits.running, settings.limits.queued)
        # In their order: taking a queue apart from its front costs nothing, at random it costs its length each time.
        self._runs: dict[Run, None] = {}
        self._idle: dict[Context, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: Context | None = None
        self._closing = False
        self._gateways = Gateways(settings, means.catalog, means.home, self._recipe)
        means.redactor.add(self._gateways.token)

    @property
    def last_loaded(self) -> Loaded | None:
        """The load that succeeded last, whoever asked for it."""
        return self._last

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
        self._with.redactor.add(fields.api_key)
        own_key = None
        if not fields.api_key and manifest.declared.key.need is not KeyNeed.NONE:
            # A keyring may ask its owner first.
            own_key = await asyncio.to_thread(self._with.own_key, manifest)
            if self._closing:
                raise Closing("the module is stopping")
        plan = self._plan(manifest, fields, own_key)
        context = self._context(plan)
        try:
            await context.ensure(by_load=True, on_progress=on_progress)
        except BaseException:
            self._consider_idle(context, at_once=not context.is_ready)
            raise
        self._hold(context, connection, order)
        self._last, before = context, self._last
        if before is not None and before is not context:
            self._consider_idle(before)
        return context

    def _plan(self, manifest: Manifest, fields: LoadFields, own_key: str | None) -> LoadPlan:
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
        self._with.redactor.add(plan.api_key)
        return plan

    def _context(self, plan: LoadPlan) -> Context:
        key = (plan.identity, plan.context)
        context = self._contexts.get(key)
        if context is None:
            supervisor = self._supervisors.get(plan.identity)
            if supervisor is None:
                supervisor = self._supervisors[plan.identity] = self._new_supervisor(plan.manifest)
            context = self._contexts[key] = Context(next(self._ctx_ids), plan, supervisor)
        self._stay(context)
        return context

    def _new_supervisor(self, manifest: Manifest) -> Supervisor:
        return Supervisor(self._recipe(manifest), on_restart=lambda: self._with.statistics.restarted(manifest.name))

    def _recipe(self, manifest: Manifest) -> Recipe:
        return Recipe(
            manifest,
            self._prepare,
            self._with.spawn,
            worker_environ(manifest.declared, self._with.environ),
            self._settings.workers,
            WorkerLog(self._with.home.logs / f"{manifest.name}.log", self._with.redactor),
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

    def _hold(self, context: Context, connection: Hashable, order: int) -> None:
        """The load asked for last answers the provider's name: nothing of this connection reaches the others."""
        context.holders[connection] = max(order, context.holders.get(connection, 0))
        held = [other for other in self._contexts.values() if other.provider == context.provider]
        held = sorted((other for other in held if connection in other.holders), key=lambda it: it.holders[connection])
        for older in held[:-1]:
            del older.holders[connection]
            self._consider_idle(older)
        self._stay(held[-1])

    def release(self, connection: Hashable) -> None:
        """The connection is gone: it holds nothing any more."""
        for context in tuple(self._contexts.values()):
            if connection in context.holders:
                del context.holders[connection]
                self._consider_idle(context)

    def _stay(self, context: Context) -> None:
        timer = self._idle.pop(context, None)
        if timer is not None:
            timer.cancel()

    def _consider_idle(self, context: Context, *, at_once: bool = False) -> None:
        if context.in_use or self._closing:
            return
        self._stay(context)
        delay = 0.0 if at_once else self._settings.workers.idle_s
        self._idle[context] = self._loop.call_later(delay, self._expire, context)

    def _expire(self, context: Context) -> None:
        """Nobody has used the context for its time: the worker forgets it, or stops with its last one."""
        self._idle.pop(context, None)
        if context.in_use:
            return
        supervisor = context.supervisor
        key = (context.plan.identity, context.plan.context)
        siblings = [
            other for other in self._contexts.values() if other.supervisor is supervisor and other is not context
        ]
        # A sibling that is neither used nor waits for its own time was forgotten before: it is kept as the last one.
        if any(other.in_use or other in self._idle for other in siblings):
            context.forget()
        else:
            self._own(supervisor.stop(Unloaded(f"{context.provider} was idle")))
        if context is self._last:
            return  # a client that loads nothing may still use it: its next generation starts the worker again
        # Only if it is still this one: a forgotten one that was used once more may have a successor by now.
        if self._contexts.get(key) is context:
            del self._contexts[key]
        if not siblings and self._supervisors.get(context.plan.identity) is supervisor:
            del self._supervisors[context.plan.identity]

    # Generations.

    def generate(self, loaded: Loaded, job: Job, connection: Hashable, sink: Sink) -> Generation:
        """Queue or start a generation (see `jobs.PoolInterface`)."""
        assert isinstance(loaded, Context)
        if self._closing:
            raise Closing("the module is stopping")
        run = Run(loaded, job, connection, sink, self._finished)
        answer = self._admission.offer(connection, run)
        if answer is Answer.FULL:
            raise Busy("too many requests wait already; try again later", retry_after_ms=1000)
        loaded.running += 1
        self._stay(loaded)
        self._runs[run] = None
        if answer is Answer.START:
            run.begin()
        else:
            self._with.statistics.queued(loaded.provider)
        return run

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
        following = self._admission.leave(run.connection)
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
        self._consider_idle(run.context)

    # What else clients ask.

    async def models(self, loaded: Loaded) -> ModelList:
        """The model list, within 800 ms."""
        assert isinstance(loaded, Context)
        return await loaded.models()

    def providers(self) -> dict[str, ProviderDetails]:
        """Every worker there is."""
        ready = (other for other in self._supervisors.values() if other.state is WorkerState.READY)
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
        return [*(self._worker(supervisor) for supervisor in self._supervisors.values()), *self._gateways.stats()]

    def _worker(self, supervisor: Supervisor) -> WorkerStats:
        contexts = [context for context in self._contexts.values() if context.supervisor is supervisor]
        running = sum(context.running for context in contexts)
        queued = sum(1 for run in self._runs if run.context in contexts and not run.begun)
        since = supervisor.ready_since
        return WorkerStats(
            provider=supervisor.manifest.name,
            state=supervisor.state,
            pid=supervisor.pid,
            memory_bytes=resident_bytes(supervisor.pid),
            running=running - queued,
            queued=queued,
            uptime_s=None if since is None else round(self._loop.time() - since, 3),
            restarts=supervisor.restarts,
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
        supervisors = [other for other in self._supervisors.values() if other.manifest.name == provider]
        await asyncio.gather(*(supervisor.stop(error) for supervisor in supervisors))

    async def close(self) -> None:
        """Stop everything (see `jobs.PoolInterface`)."""
        self._closing = True
        error = Closing("the module is stopping")
        # Before the first wait: a build that ends meanwhile, since the module stops, is no failure of a gateway's.
        gateways = self._gateways.stop()
        for context in tuple(self._idle):
            self._stay(context)
        for run in tuple(self._runs):
            run.fail(error.failure())
            self._end(run)
        await asyncio.gather(*(context.close() for context in self._contexts.values()))
        stops = (supervisor.stop(error) for supervisor in self._supervisors.values())
        await asyncio.gather(*stops, gateways, *self._tasks)

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
