"""P7: session, connection, pool and supervisor against a small model, in every order that hypothesis finds (R1, R6).

The test plays the clients and the workers, so it knows of each request what may have ended it and what must have: that
is the model. After each step, once everything waits:

- a request has at most one terminal message, of its own type, behind its acknowledgement and its text (I1);
- its code is that of something that happened to it, and where something did that ends it, it has ended;
- its text is what its worker said for it, in that order, and nothing that was said after its end (I2);
- one that still waits has something to wait for: a build, a start, a load, a stop, a place;
- a worker knows of each request that ended without it, and one that ignores that is ended in its time.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.fake_process import FakeProcess
from support.virtual_loop import VirtualLoop
from support.whole_module import FakeClient, WholeModule

from waifu_llm.config import LimitSettings
from waifu_worker import wire

PLACES: Final = 2
QUEUE: Final = 3
IDLE_S: Final = 30.0
CANCEL_S: Final = 2.0
CHECK_S: Final = 15.0
BEAT_S: Final = 5.0
TIMEOUT_S: Final = 3.0
PROVIDERS: Final = ("fake", "other")
CLIENTS: Final = 3
TYPES: Final = {
    "load": ("load_done",),
    "generate": ("generate_done", "generate_stream_done"),
    "unload": ("unload_done",),
    "get_models": ("get_models_done",),
}


@dataclass(eq=False)
class Worker:
    """One process, as the model sees it."""

    process: FakeProcess
    provider: str
    loads: dict[int, tuple[wire.Load, float]] = field(default_factory=dict)
    generations: dict[int, wire.Generate] = field(default_factory=dict)
    cancelled: dict[int, float] = field(default_factory=dict)
    contexts: set[object] = field(default_factory=set)
    silent: bool = False
    leaving: bool = False
    mourned: bool = False

    @property
    def lives(self) -> bool:
        return not self.process.ended

    @property
    def is_pending(self) -> bool:
        """It is on its way to do what was asked of its provider."""
        return self.lives and (not self.process.greeted or bool(self.loads) or self.process.stops > 0)


@dataclass(eq=False)
class Ask:
    """A request. `may`: the codes it may end with, for what happened to it. `over`: it must have ended.

    `sure`: how much of what was said its client must have heard; `settled`: that before this turn.
    """

    client: FakeClient
    id: str
    kind: str
    provider: str | None
    begun: float
    num_ctx: int = 0
    stream: bool = False
    deadline: float | None = None
    may: set[str] = field(default_factory=set)
    over: bool = False
    fresh: bool = True
    gone: bool = False
    code: str | None = None
    worker: Worker | None = None
    wire_id: int = 0
    said: str = ""
    sure: int = 0
    settled: int = 0

    @property
    def is_open(self) -> bool:
        return self.code is None and not self.gone

    def happened(self, code: str, *, ends: bool = True) -> None:
        """Something happened that ends it; only perhaps, as long as nobody has read its frame."""
        self.may.add(code)
        self.over = self.over or (ends and not self.fresh)


class Raised(logging.Handler):
    """What was raised where nobody expects it: the module and the loop go on, and log it (R16)."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.said.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


class ModuleModel(RuleBasedStateMachine):
    """Clients that ask, workers that answer or do not, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.numbers = iter(range(10**6))
        self.asks: list[Ask] = []
        self.workers: list[Worker] = []
        self.clients: list[FakeClient | None] = [None] * CLIENTS
        self.orders: dict[FakeClient, dict[str, int]] = {}
        self.shared: str | None = None
        self.hurried = False
        # Who ends what in this turn: of two clients, the one that spoke first may be heard second.
        self.ends: list[tuple[FakeClient, tuple[str, ...], str | None]] = []
        # And whose requests have ended by that, unless it vanishes before it is heard.
        self.ended: list[tuple[FakeClient, Ask]] = []
        self.sick: set[str] = set()
        self.raised = Raised()
        logging.getLogger().addHandler(self.raised)
        self.loop.run_until_complete(self._open())
        for index in range(CLIENTS):
            self._connect(index)

    async def _open(self) -> None:
        folder = Path(os.environ["WAIFU_LLM_HOME"])
        limits = LimitSettings(running=PLACES, queued=QUEUE)
        self.module = WholeModule(
            folder, limits=limits, providers=PROVIDERS, idle_s=IDLE_S, cancel_s=CANCEL_S, crashes=1000
        )

    def _connect(self, index: int) -> FakeClient:
        client = self.clients[index] = self.module.connect()
        self.orders[client] = {}
        return client

    @initialize(warm=st.sampled_from([True, True, True, False]))
    def begin(self, warm: bool) -> None:
        """Mostly a load is there already, for all who have none of their own."""
        if warm:
            self.load(0, "fake", 1, limited=False, hurry=False)
            self.work("well", hurry=False)

    # What the model knows.

    def open(self, *kinds: str, provider: str | None = None) -> Iterator[Ask]:
        for ask in self.asks:
            if ask.is_open and ask.kind in kinds and provider in (None, ask.provider):
                yield ask

    @property
    def living(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.lives]

    def on_wire(self) -> dict[tuple[Worker, int], Ask]:
        return {(ask.worker, ask.wire_id): ask for ask in self.asks if ask.worker is not None}

    def inside(self, act: Callable[[], object]) -> None:
        self.loop.call_soon(act)

    def go(self, hurry: bool) -> None:
        """Go on with the next step: in the same turn of the loop, or when everything waits."""
        self.hurried = hurry
        if not hurry:
            self.settle()

    def settle(self) -> None:
        self.loop.settle()
        self.look()
        self.shared = last.provider if (last := self.module.bench.pool.last_loaded) is not None else None
        for ask in self.asks:
            ask.fresh = False
            ask.settled = ask.sure
        self.ends.clear()
        self.ended.clear()

    # What clients do.

    def ask(self, index: int, kind: str, provider: str | None, **model: object) -> Ask:
        client = self.clients[index] or self._connect(index)
        ask = Ask(client, f"{kind}{next(self.numbers)}", kind, provider, self.loop.time())
        for name, value in model.items():
            setattr(ask, name, value)
        for who, kinds, whose in self.ends:
            if who is not client and kind in kinds and (whose in (None, provider) or provider is None):
                ask.may.add("INTERRUPT")
        self.asks.append(ask)
        return ask

    def deadline(self, limited: bool) -> float | None:
        return self.loop.time() + TIMEOUT_S if limited else None

    @rule(
        index=st.integers(0, CLIENTS - 1),
        provider=st.sampled_from(PROVIDERS),
        num_ctx=st.sampled_from([1, 2]),
        limited=st.booleans(),
        hurry=st.booleans(),
    )
    def load(self, index: int, provider: str, num_ctx: int, limited: bool, hurry: bool) -> None:
        ask = self.ask(index, "load", provider, num_ctx=num_ctx, deadline=self.deadline(limited))
        more = {"timeout_ms": int(TIMEOUT_S * 1000)} if limited else {}
        ask.client.load(ask.id, provider, num_ctx=num_ctx, **more)
        self.go(hurry)

    @rule(
        index=st.integers(0, CLIENTS - 1),
        name=st.none() | st.sampled_from(PROVIDERS),
        stream=st.booleans(),
        limited=st.booleans(),
        hurry=st.booleans(),
    )
    def generate(self, index: int, name: str | None, stream: bool, limited: bool, hurry: bool) -> None:
        self.settle()
        client = self.clients[index] or self._connect(index)
        own = self.orders[client]
        wanted = name or max(own, key=lambda it: own[it], default=self.shared)
        known = wanted in own if own else wanted is not None and wanted == self.shared
        ask = self.ask(index, "generate", wanted, stream=stream, deadline=self.deadline(limited))
        if not known:
            ask.provider, ask.may, ask.over = None, {"INVALID_PROVIDER"}, True
        else:
            if wanted in self.sick:
                ask.may.add("UNEXPECTED")
            waiting = [other for other in self.open("generate") if other.worker is None]
            if len(waiting) > QUEUE:
                for other in waiting:
                    other.may.add("UNEXPECTED")
        timeout_ms = int(TIMEOUT_S * 1000) if limited else None
        ask.client.generate(ask.id, provider=name, stream=stream, timeout_ms=timeout_ms)
        self.go(hurry)

    @rule(data=st.data(), index=st.integers(0, CLIENTS - 1), hurry=st.booleans())
    def disturb(self, data: st.DataObject, index: int, hurry: bool) -> None:
        """Whatever else clients do."""
        what = data.draw(
            st.sampled_from([self.interrupt, self.interrupt_one, self.unload, self.get_models, self.vanish])
        )
        what(data, index)
        self.go(hurry)

    def interrupt(self, data: st.DataObject, index: int) -> None:
        client = self.clients[index] or self._connect(index)
        everybody = data.draw(st.booleans())
        client.say("interrupt", f"i{next(self.numbers)}", **({"scope": "all"} if everybody else {}))
        for ask in self.open("generate"):
            if everybody or ask.client is client:
                self.end(client, ask)
        if everybody:
            self.ends.append((client, ("generate",), None))

    def end(self, client: FakeClient, ask: Ask, *, surely: bool = True) -> None:
        """A client ends a request, its own or another's."""
        was_over = ask.over
        ask.happened("INTERRUPT", ends=surely)
        # It may be read before what a worker has said in this turn.
        ask.sure = ask.settled
        if ask.over and not was_over:
            self.ended.append((client, ask))

    def interrupt_one(self, data: st.DataObject, _: int) -> None:
        choices = list(self.open("load", "generate"))
        if choices:
            ask = data.draw(st.sampled_from(choices))
            ask.client.say("interrupt", f"i{next(self.numbers)}", target_request_id=ask.id)
            self.end(ask.client, ask)

    def unload(self, data: st.DataObject, index: int) -> None:
        provider = data.draw(st.sampled_from(PROVIDERS))
        for ask in self.open("generate", "load", provider=provider):
            # A load may have its worker's word already, or ask for the next worker.
            self.end(self.clients[index] or self._connect(index), ask, surely=ask.kind == "generate")
        ask = self.ask(index, "unload", provider, may={"SUCCESS"})
        ask.client.say("unload", ask.id, provider=provider)
        self.ends.append((ask.client, ("load", "generate"), provider))

    def get_models(self, _: st.DataObject, index: int) -> None:
        ask = self.ask(index, "get_models", None, may={"SUCCESS", "INVALID_PROVIDER", "TIMEOUT"})
        ask.client.say("get_models", ask.id)

    def vanish(self, _: st.DataObject, index: int) -> None:
        client, self.clients[index] = self.clients[index], None
        if client is not None:
            client.vanish()
            for who, ask in self.ended:
                ask.over = ask.over and who is not client
            for ask in self.asks:
                ask.gone = ask.gone or ask.client is client

    # What workers do.

    @rule(how=st.sampled_from(["well", "well", "well", "well", "bad", "slowly"]), hurry=st.booleans())
    def work(self, how: str, hurry: bool) -> None:
        """Workers do what they are asked, but generate: that has a rule of its own."""
        for worker in self.living:
            if not worker.process.greeted:
                self.inside(lambda worker=worker: worker.process.greet(worker.provider))  # type: ignore[misc]
        self.settle()
        for worker in self.living:
            for number in list(worker.loads):
                self.answer_load(worker, number, how)
            for number in list(worker.cancelled):
                if how == "well":
                    self.obey(worker, number)
        self.go(hurry)

    def answer_load(self, worker: Worker, number: int, how: str) -> None:
        answer: wire.FromWorker
        if how == "slowly":
            answer = wire.Progress(id=number, stage="model", detail="m", fraction=0.5)
        elif how == "bad":
            answer = wire.Failed(id=number, error=wire.Code.AUTHORIZATION, message="no")
            for ask in self.open("load", "generate", provider=worker.provider):
                ask.happened("AUTHORIZATION", ends=False)
        else:
            answer = wire.Done(id=number, models=(wire.ModelInfo(id="m"),))
            worker.contexts.add(worker.loads[number][0].options["num_ctx"])
        if how != "slowly":
            del worker.loads[number]
            worker.cancelled.pop(number, None)
        self.inside(lambda: worker.process.say(answer))

    def obey(self, worker: Worker, number: int) -> None:
        del worker.cancelled[number]
        worker.generations.pop(number, None)
        worker.loads.pop(number, None)
        failed = wire.Failed(id=number, error=wire.Code.INTERRUPT, message="cancelled")
        self.inside(lambda: worker.process.say(failed))

    @precondition(lambda self: any(worker.generations for worker in self.living))
    @rule(data=st.data(), what=st.sampled_from(["chunk", "chunk", "done", "done", "failed"]), hurry=st.booleans())
    def answer_generation(self, data: st.DataObject, what: str, hurry: bool) -> None:
        choices = [(worker, number) for worker in self.living for number in worker.generations]
        worker, number = data.draw(st.sampled_from(choices))
        ask = self.on_wire()[worker, number]
        answer: wire.FromWorker
        if what == "chunk":
            text = f"{next(self.numbers)} "
            answer = wire.Chunk(id=number, texts=(text,))
            if ask.is_open:
                ask.said += text
                # What it would say after its end, in the same turn, nobody hears.
                ask.sure = ask.sure if ask.over or worker.leaving else len(ask.said)
                if ask.stream and ask.deadline is not None:
                    ask.deadline = self.loop.time() + TIMEOUT_S
        else:
            del worker.generations[number]
            worker.cancelled.pop(number, None)
            failed = wire.Failed(id=number, error=wire.Code.INVALID_MODEL, message="no")
            answer = wire.Done(id=number) if what == "done" else failed
            ask.happened("SUCCESS" if what == "done" else "INVALID_MODEL")
        self.inside(lambda: worker.process.say(answer))
        self.go(hurry)

    @precondition(lambda self: self.living)
    @rule(data=st.data(), what=st.sampled_from(["exit", "silence", "hold", "build"]), hurry=st.booleans())
    def misbehave(self, data: st.DataObject, what: str, hurry: bool) -> None:
        """A worker dies, falls silent or will not leave; from now on installs take a while, or none does any more."""
        worker = data.draw(st.sampled_from(self.living))
        match what:
            case "exit":
                self.inside(lambda: worker.process.exit(-9))
                worker.leaving = True
            case "silence":
                worker.silent = True
            case "build":
                ready = self.module.bench.environments.ready
                self.inside(ready.clear if ready.is_set() else ready.set)
            case _:
                worker.process.stoppable.clear()
        self.go(hurry)

    @rule(seconds=st.sampled_from([0.5, 1.0, CANCEL_S, TIMEOUT_S, CHECK_S, IDLE_S + 5, 65.0]))
    def time(self, seconds: float) -> None:
        self.settle()
        end = self.loop.time() + seconds
        while (left := end - self.loop.time()) > 0:
            self.loop.pass_time(min(left, BEAT_S))
            self.expire()
            for worker in self.living:
                if worker.process.greeted and not worker.silent:
                    self.inside(lambda worker=worker: worker.process.say(wire.Beat()))  # type: ignore[misc]
            self.settle()
        # One that is being stopped is ended by the steps of that, which these processes hold up as long as they like.
        self.go(hurry=False)
        for worker in (it for it in self.living if not it.process.stops):
            assert all(self.loop.time() - at <= CANCEL_S for at in worker.cancelled.values()), "it ignores a cancel"

    def expire(self) -> None:
        now = self.loop.time()
        for ask in self.open("load", "generate"):
            if ask.deadline is not None and ask.deadline <= now:
                ask.happened("TIMEOUT")
        for worker in self.workers:
            for _, since in worker.loads.values():
                if now - since >= CHECK_S:
                    for ask in self.open("load", "generate", provider=worker.provider):
                        ask.happened("UNEXPECTED", ends=False)

    # What is there after a step.

    def look(self) -> None:
        for process in self.module.new_processes():
            self.workers.append(Worker(process, Path(process.argv[0]).parent.name))
        for worker in self.workers:
            self.read(worker)
            if not worker.lives and not worker.mourned:
                worker.mourned = True
                self.mourn(worker)
        for ask in self.asks:
            if ask.is_open:
                self.compare(ask)

    def read(self, worker: Worker) -> None:
        """What the module sent to it."""
        while not worker.process.nothing_sent():
            match worker.process._sent.get_nowait():
                case wire.Load() as load:
                    worker.loads[load.id] = load, self.loop.time()
                case wire.Generate() as job:
                    ask = next(ask for ask in self.asks if ask.id == job.messages[0].content)
                    assert ask.worker is None, "it is replayed"
                    ask.worker, ask.wire_id = worker, job.id
                    worker.generations[job.id] = job
                case wire.Cancel(id=number):
                    if number in worker.generations or number in worker.loads:
                        worker.cancelled[number] = self.loop.time()
                case wire.Models(id=number):
                    models = wire.Done(id=number, models=())
                    self.inside(lambda number=number, models=models: worker.process.say(models))  # type: ignore[misc]

    def mourn(self, worker: Worker) -> None:
        """Its process has ended, for whatever reason."""
        if not worker.process.greeted or worker.process.stops == 0:
            self.sick.add(worker.provider)
        for ask in self.open("load", "generate", provider=worker.provider):
            ask.happened("UNEXPECTED", ends=ask.worker is worker)

    def compare(self, ask: Ask) -> None:
        ends = ask.client.ends(ask.id)
        if not ends:
            assert not ask.over or ask.fresh, f"{ask} has not ended"
            return
        ask.code = ends[0]["error"]
        assert ends[0]["type"] in TYPES[ask.kind]
        allowed = set(ask.may)
        if ask.kind == "load" and self.is_loaded(ask):
            allowed.add("SUCCESS")
        assert ask.code in allowed, f"{ask} ended with {ends[0]}"
        if ask.kind == "load" and ask.code == "SUCCESS":
            assert ask.provider is not None
            self.sick.discard(ask.provider)
            order = int(ask.id.removeprefix("load"))
            mine = self.orders[ask.client]
            mine[ask.provider] = max(order, mine.get(ask.provider, 0))

    def is_loaded(self, ask: Ask) -> bool:
        return any(worker.provider == ask.provider and ask.num_ctx in worker.contexts for worker in self.workers)

    @invariant()
    def every_reply_is_in_its_place_and_every_wait_has_a_reason(self) -> None:
        if self.hurried:
            return
        assert self.raised.said == []
        for ask in self.asks:
            self.check_talk(ask)
        self.check_waits()
        self.check_wire()
        self.asks = [ask for ask in self.asks if ask.is_open or ask.worker in self.living]

    def check_talk(self, ask: Ask) -> None:
        replies = ask.client.heard(ask.id)
        ends = ask.client.ends(ask.id)
        assert len(ends) == (0 if ask.code is None else 1)
        if ends:
            assert replies[-1] is ends[0]
        if replies and ask.kind in ("load", "generate"):
            assert replies[0]["type"] == f"{ask.kind}_ack"
        if ask.kind == "generate" and not ask.gone:
            heard = ask.client.text(ask.id) if ask.stream else ends[0]["response"] if ask.code == "SUCCESS" else None
            assert heard is None or (ask.said.startswith(heard) and len(heard) >= ask.sure)

    def check_waits(self) -> None:
        building = not self.module.bench.environments.ready.is_set()
        pending = {worker.provider for worker in self.living if worker.is_pending}
        # What is stopped gives its places back at once.
        taken = sum(len(worker.generations) for worker in self.living if not worker.process.stops)
        waiting = [ask for ask in self.open("generate") if ask.worker is None]
        reasonable = [ask for ask in waiting if building or ask.provider in pending]
        assert taken <= PLACES
        if len(reasonable) < len(waiting):
            assert taken + len(reasonable) >= PLACES, "it waits though there is a place"
        for ask in self.open("load"):
            assert building or ask.provider in pending, f"{ask} waits for nothing"
        for ask in self.open("unload"):
            assert any(worker.process.stops and worker.provider == ask.provider for worker in self.living)

    def check_wire(self) -> None:
        asks = self.on_wire()
        for worker in self.living:
            for number in worker.generations:
                ask = asks[worker, number]
                if not ask.is_open:
                    assert number in worker.cancelled or worker.process.stops, f"nobody told the worker of {ask}"
        for provider in PROVIDERS:
            up = [it for it in self.living if it.provider == provider and not it.process.stops]
            assert len(up) <= 1

    def teardown(self) -> None:
        try:
            for worker in self.workers:
                worker.process.stoppable.set()
            self.module.bench.environments.ready.set()
            if len(self.asks) % 2:
                self.close()
            for ask in self.asks:
                ask.gone = True
            self.loop.run_until_complete(self.module.end())
            self.loop.pass_time(1.0)
            assert self.module.at_rest
            self.look()
            assert self.living == []
            assert self.raised.said == []
        finally:
            # A run that failed leaves tasks, which would complain of their loop.
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.settle()
            self.loop.close()
            logging.getLogger().removeHandler(self.raised)

    def close(self) -> None:
        """The module stops: who still waits is told."""
        self.settle()
        for ask in self.asks:
            if ask.is_open:
                ask.happened("INTERRUPT", ends=True)
        self.inside(self.module.server.request_stop)
        self.settle()


TestModuleModel = ModuleModel.TestCase
TestModuleModel.settings = settings(
    max_examples=300, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
# What is found is made small before it is shown, on a loaded machine as well.
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("weighed_here")]
