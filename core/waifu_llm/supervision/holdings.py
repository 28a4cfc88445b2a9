"""Which loads there are, on which workers, and who holds them; what nobody uses ends. A part of the pool."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Hashable, Iterable, Iterator, Sequence
from typing import Final

from waifu_llm.errors import Busy, Closing, ModuleError, Unloaded
from waifu_llm.supervision.context import Context
from waifu_llm.supervision.fields import LoadPlan
from waifu_llm.supervision.state import WorkerState
from waifu_llm.supervision.supervisor import Supervisor

# Each is a distinct set of load fields: little for the core, an object of the provider's for a worker.
MOST_CONTEXTS: Final = 4096


class Holdings:
    """All contexts and supervisors of a pool: at most `workers` of the latter, stopped `idle_s` after their last use.

    `supervisor_of` makes one for a load.
    """

    def __init__(self, supervisor_of: Callable[[LoadPlan], Supervisor], workers: int, idle_s: float) -> None:
        self._supervisor_of = supervisor_of
        self._workers = workers
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._supervisors: dict[str, Supervisor] = {}
        # Started before anybody asked for them, by provider: they belong to no load yet.
        self._spares: dict[str, Supervisor] = {}
        self._contexts: dict[tuple[str, str], Context] = {}
        self._ctx_ids = itertools.count(1)
        # In the order in which they fell idle.
        self._idle: dict[Context, asyncio.TimerHandle | None] = {}
        self._stops: set[asyncio.Task[None]] = set()
        self._last: Context | None = None
        self._closing = False

    @property
    def last(self) -> Context | None:
        """The load that succeeded last, whoever asked for it."""
        return self._last

    @property
    def contexts(self) -> Iterable[Context]:
        """All of them."""
        return self._contexts.values()

    @property
    def supervisors(self) -> Sequence[Supervisor]:
        """All of them, running or not."""
        return [*self._supervisors.values(), *self._spares.values()]

    @property
    def at_rest(self) -> bool:
        """Whether no worker is being stopped and none waits for its time."""
        return not self._stops and all(timer is None for timer in self._idle.values())

    @property
    def is_full(self) -> bool:
        """Whether there are as many workers as there may be."""
        supervisors = self.supervisors
        return len(supervisors) >= self._workers and sum(map(self._takes_place, supervisors)) >= self._workers

    def on(self, supervisor: Supervisor) -> Iterator[Context]:
        """The contexts on one worker."""
        return (context for context in self._contexts.values() if context.supervisor is supervisor)

    # Loads and who holds them.

    async def context(self, plan: LoadPlan) -> Context:
        """The context of a load: the one there is, or a new one, once there is room for it and its worker.

        Nobody holds it yet: the caller uses it before its next await, or calls `consider_idle`. Cancelling it is safe.
        Raises: Busy, where there is no room and none can be made; Closing.
        """
        while self._lacks_worker(plan) or self._lacks_context(plan):
            await self._make_room(plan)
        if self._closing:
            raise Closing("the module is stopping")
        key = (plan.identity, plan.context)
        context = self._contexts.get(key)
        if context is None:
            supervisor = self._supervisors.get(plan.identity)
            if supervisor is None:
                supervisor = self._supervisors[plan.identity] = self._take_spare(plan) or self._supervisor_of(plan)
            context = self._contexts[key] = Context(next(self._ctx_ids), plan, supervisor)
        self.stay(context)
        return context

    def _lacks_worker(self, plan: LoadPlan) -> bool:
        own = self._supervisors.get(plan.identity) or self._spares.get(plan.manifest.name)
        return self.is_full and not (own and self._takes_place(own))

    def _takes_place(self, supervisor: Supervisor) -> bool:
        """Whether it counts against the limit: one without a process does where somebody may start it any time."""
        has_process = supervisor.state not in {WorkerState.STOPPED, WorkerState.FAILED}
        return has_process or any(context.in_use for context in self.on(supervisor))

    def _lacks_context(self, plan: LoadPlan) -> bool:
        return (plan.identity, plan.context) not in self._contexts and len(self._contexts) >= MOST_CONTEXTS

    async def _make_room(self, plan: LoadPlan) -> None:
        """End what fell idle first; what is ending already is waited for."""
        if self._stops:
            await asyncio.wait(self._stops, return_when=asyncio.FIRST_COMPLETED)
            return
        needs_worker = self._lacks_worker(plan)
        if needs_worker and self._stop_spare():
            return
        # The worker of the last load makes room where no other can: that load stays valid without it.
        for spared in (self._last, None if needs_worker else self._last):
            for idle in self._idle:
                going = list(self.on(idle.supervisor)) if needs_worker else [idle]
                if not any(other.in_use or other is spared for other in going):
                    for other in going:
                        self.stay(other)
                        self._expire(other)
                    return
        raise Busy(
            f"as many workers are in use as there may be (limits.workers = {self._workers})"
            if needs_worker
            else f"{MOST_CONTEXTS} different loads are in use, as many as there may be",
            retry_after_ms=1000,
        )

    def hold(self, context: Context, connection: Hashable, order: int) -> None:
        """The load asked for last answers the provider's name: nothing of this connection reaches the others."""
        context.holders[connection] = max(order, context.holders.get(connection, 0))
        held = [other for other in self._contexts.values() if other.provider == context.provider]
        held = sorted((other for other in held if connection in other.holders), key=lambda it: it.holders[connection])
        for older in held[:-1]:
            del older.holders[connection]
            self.consider_idle(older)
        self.stay(held[-1])
        self._last, before = context, self._last
        if before is not None and before is not context:
            self.consider_idle(before)

    def release(self, connection: Hashable) -> None:
        """The connection is gone: it holds nothing any more."""
        for context in tuple(self._contexts.values()):
            if connection in context.holders:
                del context.holders[connection]
                self.consider_idle(context)

    # Workers that are started before anybody loads them.

    async def start_spare(self, provider: str, supervisor: Supervisor) -> None:
        """Start a worker that becomes that of the first load of its provider that has none. Cancelling it is safe.

        Raises: ModuleError; then there is none.
        """
        if self._closing:
            raise Closing("the module is stopping")
        self._spares[provider] = supervisor
        try:
            await supervisor.ensure_ready(by_load=True)
        except ModuleError:
            if self._spares.get(provider) is supervisor:
                del self._spares[provider]
            raise

    def make_spare(self, context: Context) -> None:
        """Its load failed, and only it wanted the worker: whoever loads the provider next gets that."""
        supervisor = context.supervisor
        if supervisor.state is WorkerState.READY and not context.in_use and [*self.on(supervisor)] == [context]:
            self.stay(context)
            del self._contexts[context.plan.identity, context.plan.context]
            del self._supervisors[context.plan.identity]
            self._spares[context.provider] = supervisor

    def _take_spare(self, plan: LoadPlan) -> Supervisor | None:
        supervisor = self._spares.pop(plan.manifest.name, None)
        if supervisor is not None:
            supervisor.learn(plan.api_key)
        return supervisor

    def _stop_spare(self) -> bool:
        """End one that nobody has asked for yet; whether there was one."""
        for provider, supervisor in self._spares.items():
            if self._takes_place(supervisor):
                del self._spares[provider]
                # Until it has stopped it takes its place: no identity is called like a provider.
                self._supervisors[provider] = supervisor
                self._own(supervisor.stop(Unloaded(f"{provider} made room")), provider, supervisor)
                return True
        return False

    # What nobody uses.

    def stay(self, context: Context) -> None:
        """It is used: it does not end."""
        timer = self._idle.pop(context, None)
        if timer is not None:
            timer.cancel()

    def consider_idle(self, context: Context, *, at_once: bool = False) -> None:
        """Somebody stopped using it: it may end, in its time."""
        if context.in_use or self._closing:
            return
        self.stay(context)
        delay = 0.0 if at_once else self._idle_s
        # One whose load has failed meanwhile is warm no more: kept, its worker would run for ever with nothing in it.
        kept = context.kept and not at_once
        self._idle[context] = None if kept else self._loop.call_later(delay, self._expire, context)

    def _expire(self, context: Context) -> None:
        """Nobody has used the context for its time: the worker forgets it, or stops with its last one."""
        self._idle.pop(context, None)
        if context.in_use:
            return
        supervisor = context.supervisor
        key = (context.plan.identity, context.plan.context)
        siblings = [other for other in self.on(supervisor) if other is not context]
        # A sibling that is neither used nor waits for its own time was forgotten before: it is kept as the last one.
        if any(other.in_use or other in self._idle for other in siblings):
            context.forget()
        else:
            self._own(supervisor.stop(Unloaded(f"{context.provider} was idle")), context.plan.identity, supervisor)
        if context is self._last:
            return  # a client that loads nothing may still use it: its next generation starts the worker again
        # Only if it is still this one: a forgotten one that was used once more may have a successor by now.
        if self._contexts.get(key) is context:
            del self._contexts[key]

    def _own(self, stop: Coroutine[None, None, None], identity: str, supervisor: Supervisor) -> None:
        task = self._loop.create_task(stop)
        self._stops.add(task)
        task.add_done_callback(lambda task: self._stopped(task, identity, supervisor))

    def _stopped(self, task: asyncio.Task[None], identity: str, supervisor: Supervisor) -> None:
        """Forgotten only now: a load that came meanwhile starts this one again, never a second one beside it."""
        self._stops.discard(task)
        if self._supervisors.get(identity) is supervisor and not any(self.on(supervisor)):
            del self._supervisors[identity]

    # The end.

    def begin_closing(self) -> None:
        """Nothing new is taken in, and nothing ends by itself any more."""
        self._closing = True
        for context in tuple(self._idle):
            self.stay(context)

    async def close(self, error: ModuleError) -> None:
        """Stop every worker; what they had in their hands ends with `error`."""
        await asyncio.gather(*(context.close() for context in self._contexts.values()))
        await asyncio.gather(*(other.stop(error) for other in self.supervisors), *self._stops)
