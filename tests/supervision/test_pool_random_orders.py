"""Everything that can happen to a pool, in orders that nobody thought of: each end once, and nothing left."""

import asyncio
import gc
import random
from dataclasses import dataclass, field

import pytest
from support.fake_process import FakeProcess
from support.pool_bench import Bench, MakeBench, RecordingSink, job
from support.waiting import bounded

from waifu_llm.catalog import KeyNeed
from waifu_llm.config import LimitSettings
from waifu_llm.errors import Busy, ModuleError
from waifu_llm.supervision.jobs import Generation, Loaded
from waifu_llm.supervision.pool import Pool
from waifu_worker import wire

STEPS = 250


class Worker:
    """Does what a worker may do, whenever it is its turn."""

    def __init__(self, chance: random.Random, process: FakeProcess) -> None:
        self.chance = chance
        self.process = process
        self.greeted = False
        self.asked: list[int] = []

    def step(self) -> None:
        """One thing that a worker may do."""
        if not self.greeted:
            self.greeted = True
            self.process.greet()
        while not self.process.nothing_sent():
            message = self.process._sent.get_nowait()
            assert not isinstance(message, wire.Start)
            self.take(message)
        if self.asked and self.chance.random() < 0.7:
            self.answer(self.asked.pop(self.chance.randrange(len(self.asked))))

    def take(self, message: wire.ToWorker) -> None:
        if isinstance(message, wire.Cancel) and message.id in self.asked:
            self.asked.remove(message.id)
            self.process.say(wire.Failed(id=message.id, error=wire.Code.INTERRUPT, message="cancelled"))
        elif isinstance(message, wire.Load | wire.Models | wire.Generate):
            self.asked.append(message.id)

    def answer(self, request_id: int) -> None:
        done = wire.Done(id=request_id)
        ends: list[wire.FromWorker] = [done, done, done]
        ends.append(wire.Failed(id=request_id, error=wire.Code.UNEXPECTED, message="no"))
        # What comes behind the end is nobody's.
        self.process.say(wire.Chunk(id=request_id, texts=("x",)), self.chance.choice(ends), done)


@dataclass
class Life:
    """One random run."""

    bench: Bench
    chance: random.Random
    loads: list[asyncio.Future[Loaded]] = field(default_factory=list)
    unloads: list[asyncio.Future[None]] = field(default_factory=list)
    running: list[tuple[Generation, RecordingSink]] = field(default_factory=list)
    cancelled: list[RecordingSink] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)

    def step(self) -> None:
        match self.chance.choices(range(7), [5, 10, 5, 2, 1, 1, 30])[0]:
            case 0:
                self.load()
            case 1 if self.bench.pool.last_loaded is not None:
                self.generate()
            case 2 if self.running:
                generation, sink = self.chance.choice(self.running)
                self.bench.pool.cancel(generation)
                if not sink.endings:
                    self.cancelled.append(sink)
            case 3 if self.loads:
                self.chance.choice(self.loads).cancel()
            case 4:
                self.unloads.append(asyncio.ensure_future(self.bench.pool.unload("fake")))
            case 5 if self.workers:
                self.chance.choice(self.workers).process.exit(self.chance.choice([0, 1, -9]))
            case _:
                self.work()

    def load(self) -> None:
        fields: dict[str, object] = {
            "num_ctx": self.chance.randrange(1, 3),
            "api_key": self.chance.choice(["one", "two"]),
        }
        task = asyncio.ensure_future(self.bench.pool.load(self.bench.fields(**fields), self.chance.randrange(4)))
        task.add_done_callback(self.ended)
        self.loads.append(task)

    def ended(self, task: asyncio.Future[Loaded]) -> None:
        self.loads.remove(task)
        assert task.cancelled() or task.exception() is None or isinstance(task.exception(), ModuleError)

    def generate(self) -> None:
        sink = RecordingSink()
        connection = self.chance.randrange(4)
        # As sessions do: with what this connection holds, else with what anybody loaded last.
        held = [context for context in self.bench.pool._holdings.contexts if connection in context.holders]
        loaded = self.chance.choice(held) if held else self.bench.pool.last_loaded
        assert loaded is not None
        try:
            generation = self.bench.pool.generate(loaded, job(), connection, sink)
        except Busy:
            return
        self.running.append((generation, sink))

    def work(self) -> None:
        while not self.bench.spawn._started.empty():
            self.workers.append(Worker(self.chance, self.bench.spawn._started.get_nowait()))
        for worker in self.workers:
            if self.chance.random() < 0.5:
                worker.step()

    def at_rest(self, pool: Pool) -> bool:
        return not (self.loads or pool._runs or pool._prewarming._tasks) and pool._holdings.at_rest

    async def live(self) -> None:
        """Many steps, then an end to all that goes on."""
        pool = self.bench.pool
        for _ in range(STEPS):
            self.step()
            for _ in range(self.chance.randrange(4)):
                await asyncio.sleep(0)
        self.release()
        async with bounded():
            while not self.at_rest(pool):
                self.work()
                await asyncio.sleep(0)
                self.release()
            await asyncio.gather(*self.unloads)

    def release(self) -> None:
        for connection in range(4):
            self.bench.pool.release(connection)


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_happens_in_whatever_order_each_end_comes_once_and_nothing_is_left(
    make_bench: MakeBench, seed: int
) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))
    bench = make_bench(limits=LimitSettings(running=3, queued=6), crashes=1000, idle_s=0.0, cancel_s=3600.0)
    life, pool = Life(bench, random.Random(seed)), bench.pool
    await life.live()
    for _, sink in life.running:
        assert len(sink.endings) == (0 if sink in life.cancelled else 1)
    assert (pool._admission.running, pool._admission.queued, pool._admission.memory) == (0, 0, 0)
    assert (pool._admission._running, pool._admission._memory) == ({}, {})
    assert [context for context in pool._holdings.contexts if context is not pool.last_loaded] == []
    assert all(context.running == 0 and not context.in_use for context in pool._holdings.contexts)
    assert [worker for worker in life.workers if not worker.process.ended] == []
    await pool.close()
    gc.collect()
    assert told == []


@pytest.mark.parametrize("need", [KeyNeed.OPTIONAL, KeyNeed.REQUIRED])
@pytest.mark.parametrize("seed", range(20))
async def test_with_prewarming_nothing_is_left_but_what_was_prewarmed(
    make_bench: MakeBench, seed: int, need: KeyNeed
) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))
    limits = LimitSettings(running=3, queued=6, workers=1 + seed % 3)
    bench = make_bench(limits=limits, crashes=1000, idle_s=0.0, cancel_s=3600.0, prewarm=("fake",), key=need)
    life, pool = Life(bench, random.Random(seed)), bench.pool
    pool.prewarm()
    asyncio.get_running_loop().call_later(0.01, pool.prewarm)
    await life.live()
    assert (pool._admission.running, pool._admission.queued, pool._admission.memory) == (0, 0, 0)
    assert all(context.kept or context is pool.last_loaded for context in pool._holdings.contexts)
    assert all(context.running == 0 and not context.in_use for context in pool._holdings.contexts)
    assert len([worker for worker in life.workers if not worker.process.ended]) <= limits.workers
    await pool.close()
    gc.collect()
    assert [worker for worker in life.workers if not worker.process.ended] == []
    assert told == []
