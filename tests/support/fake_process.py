"""A worker's or gateway's process in memory: the test plays it, message by message, so that order is chosen."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
from support.waiting import bounded

from waifu_llm.supervision.process import ChildEvents
from waifu_worker import framing, wire

Sent = TypeVar("Sent", wire.Load, wire.Models, wire.Generate, wire.Cancel, wire.Unload, wire.Start)
_to_either: msgspec.json.Decoder[wire.ToWorker | wire.ToGateway] = msgspec.json.Decoder(wire.ToWorker | wire.ToGateway)


class FakeProcess:
    """Satisfies `Child`; what the core sends is read with `next_sent`."""

    _pids = itertools.count(1_000_000)

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], events: ChildEvents, nice: int = 0) -> None:
        self.nice = nice
        self.argv = list(argv)
        self.env = dict(env)
        self.pid = next(self._pids)
        self.unsent = 0
        self.reads: list[bool] = []
        self.ended = False
        self.greeted = False
        self._over = asyncio.Event()
        self.stops = 0
        self.kills = 0
        self.stoppable = asyncio.Event()
        self.stoppable.set()
        self._events = events
        self._splitter = framing.LineSplitter()
        self._sent: asyncio.Queue[wire.ToWorker | wire.ToGateway] = asyncio.Queue()

    def pause_reading(self) -> None:
        self.reads.append(False)

    def resume_reading(self) -> None:
        self.reads.append(True)

    def write(self, data: bytes) -> None:
        for line in self._splitter.feed(data):
            self._sent.put_nowait(_to_either.decode(line))

    async def stop(self) -> None:
        self.stops += 1
        await self.stoppable.wait()
        self.exit(0)

    async def kill(self) -> None:
        self.kills += 1
        self.exit(-9)

    # What the test does.

    async def next_sent(self, kind: type[Sent]) -> Sent:
        async with bounded():
            message = await self._sent.get()
        assert isinstance(message, kind), message
        return message

    def nothing_sent(self) -> bool:
        return self._sent.empty()

    def say(self, *messages: wire.FromWorker | wire.FromGateway) -> None:
        self.write_raw(b"".join(map(framing.encode, messages)))

    def write_raw(self, data: bytes) -> None:
        if not self.ended:
            self._events.output(data)

    def complain(self, text: str) -> None:
        self._events.errors(text.encode())

    def greet(self, name: str = "fake") -> None:
        self.greeted = True
        self.say(wire.Ready(magic=wire.MAGIC, wire=wire.WIRE_VERSION, name=name))

    async def end(self) -> None:
        """Wait until the core has ended it."""
        async with bounded():
            await self._over.wait()

    def exit(self, returncode: int) -> None:
        if not self.ended:
            self.ended = True
            self._over.set()
            # What stops it waits for its end, however it comes.
            self.stoppable.set()
            self._events.exited(returncode)


class FakeSpawn:
    """Satisfies `Spawn`; the test waits for each process with `next_process`."""

    def __init__(self) -> None:
        self.count = 0
        self.error: OSError | None = None
        self._started: asyncio.Queue[FakeProcess] = asyncio.Queue()

    async def __call__(
        self, argv: Sequence[str], env: Mapping[str, str], events: ChildEvents, nice: int = 0
    ) -> FakeProcess:
        if self.error is not None:
            raise self.error
        self.count += 1
        process = FakeProcess(argv, env, events, nice)
        self._started.put_nowait(process)
        return process

    async def next_process(self) -> FakeProcess:
        async with bounded():
            return await self._started.get()

    async def next_ready(self, name: str = "fake") -> FakeProcess:
        process = await self.next_process()
        # The core attaches the process first, as it does with a real one that needs its time to start.
        await asyncio.sleep(0)
        process.greet(name)
        return process

    async def loaded(self, *models: str) -> FakeProcess:
        """The next process, ready, with its first load answered."""
        process = await self.next_ready()
        load = await process.next_sent(wire.Load)
        process.say(wire.Done(id=load.id, models=tuple(wire.ModelInfo(id=model) for model in models or ("m",))))
        return process
