"""A real server over a real pool whose workers are in memory, and a worker that answers when the test says so."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from support.fake_process import FakeProcess
from support.pool_bench import Bench
from support.waiting import bounded

from waifu_llm.config import LimitSettings, ServerSettings, Settings
from waifu_llm.server import Server
from waifu_worker import wire

GATEWAY = "what-gateways-send"


@contextlib.asynccontextmanager
async def over(bench: Bench, limits: LimitSettings) -> AsyncIterator[str]:
    """A server over the real pool: its url."""
    settings = Settings(limits=limits, server=ServerSettings(port=0))
    server = Server(bench.pool, settings, bench.statistics, bench.redactor, GATEWAY)
    host, port = await server.start()
    try:
        yield f"ws://{host}:{port}"
    finally:
        await server.drain()


class Worker:
    """A worker in memory that keeps its generations until it is told to answer."""

    def __init__(self, process: FakeProcess) -> None:
        self.process = process
        self.waiting: list[wire.Generate] = []
        self.answering = False
        self._came = asyncio.Event()
        self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while True:
            match await self.process._sent.get():
                case wire.Load(id=id_):
                    self.process.say(wire.Done(id=id_, models=()))
                case wire.Generate() as asked if self.answering:
                    self.process.say(wire.Done(id=asked.id))
                case wire.Generate() as asked:
                    self.waiting.append(asked)
                    self._came.set()
                case wire.Cancel(id=id_):
                    self.process.say(wire.Failed(id=id_, error=wire.Code.INTERRUPT, message="stopped"))

    async def has(self, count: int) -> None:
        async with bounded():
            while len(self.waiting) < count:
                self._came.clear()
                await self._came.wait()

    def answer(self) -> None:
        """All that wait, and from now on each at once."""
        self.answering = True
        waiting, self.waiting = self.waiting, []
        self.process.say(*(wire.Done(id=asked.id) for asked in waiting))

    def stop(self) -> None:
        self._task.cancel()


@contextlib.asynccontextmanager
async def working(bench: Bench) -> AsyncIterator[Worker]:
    loading = asyncio.create_task(bench.pool.load(bench.fields(), "whoever"))
    worker = Worker(await bench.spawn.next_ready())
    async with bounded():
        await loading
    yield worker
    worker.stop()
