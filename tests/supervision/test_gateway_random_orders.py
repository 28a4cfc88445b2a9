"""Gateways that die, speak and are stopped in any order: no forbidden move, no process left, no error of ours."""

import asyncio
import logging
import random
from pathlib import Path

import pytest
from support.fake_clock import FakeClock
from support.fake_machine import FakeMachine
from support.fake_process import FakeProcess
from support.pool_bench import GATE, FakeEnvironments
from support.waiting import bounded

from waifu_llm.config import WorkerSettings
from waifu_llm.environment.model import Environment
from waifu_llm.errors import InstallFailed
from waifu_llm.log import WorkerLog
from waifu_llm.redaction import Redactor
from waifu_llm.supervision.afterwards import Afterwards
from waifu_llm.supervision.gateway import Gateway
from waifu_llm.supervision.life import OnProgress, Recipe
from waifu_llm.supervision.scales import Scales
from waifu_llm.supervision.state import WorkerState
from waifu_worker import wire

START = wire.Start(url="ws://127.0.0.1:7562", token="t", settings={}, data_dir="data", log_level="info")
GOOD = wire.GatewayReady(magic=wire.MAGIC, wire=wire.WIRE_VERSION, name="gate", address="http://localhost:9600")
BAD = wire.GatewayReady(magic="other", wire=wire.WIRE_VERSION, name="gate", address="http://localhost:9600")


class World:
    """One gateway, and the chance that befalls it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.chance = random.Random(seed)
        self.clock = FakeClock()
        self.processes: list[FakeProcess] = []
        self.environments = FakeEnvironments()
        settings = WorkerSettings(crashes=self.chance.choice((1, 3, 1000)), start_s=60.0)
        log = WorkerLog(folder / "gate.log", Redactor())
        recipe = Recipe(
            GATE, self._prepare, self._spawn, {}, settings, log, Scales(0, FakeMachine().weigh), Afterwards()
        )
        self.addresses: list[str] = []
        self.gateway = Gateway(recipe, START, lambda _, address: self.addresses.append(address), self.clock)

    async def _prepare(self, manifest: object, on_progress: OnProgress) -> Environment:
        if self.chance.random() < 0.02:
            raise InstallFailed("disk full")
        if self.chance.random() < 0.5:
            await asyncio.sleep(0)
        return await self.environments.ensure(GATE, lambda _: None)

    async def _spawn(self, argv: object, env: object, events: object, nice: int = 0) -> FakeProcess:
        if self.chance.random() < 0.05:
            raise OSError("no more processes")
        assert all(process.ended for process in self.processes), "two at once"
        process = FakeProcess([], {}, events)  # type: ignore[arg-type]
        self.processes.append(process)
        if self.chance.random() < 0.5:
            await asyncio.sleep(0)
        return process

    def step(self) -> None:
        """One thing that may happen."""
        if self.chance.random() < 0.2:
            self.clock.advance(self.chance.choice((0.5, 4.0, 40.0)))
        if not self.processes:
            return
        process = self.processes[-1]
        match self.chance.randrange(12):
            case 0 | 1 | 2 | 3:
                process.say(GOOD)
            case 4 | 5 | 6:
                process.say(wire.Beat())
            case 7:
                process.say(self.chance.choice((BAD, wire.GatewayFailed(message="no"))))
            case 8:
                process.write_raw(b"nonsense\n" * self.chance.choice((1, 200)))
            case 9:
                process.exit(self.chance.choice((0, 1, -9)))
            case _:
                self.chance.choice(self.processes).exit(3)


@pytest.mark.parametrize("seed", range(150))
async def test_whatever_happens_it_comes_to_an_end(seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World(seed, tmp_path)
    world.gateway.begin()
    for _ in range(world.chance.randrange(60)):
        for _ in range(world.chance.randrange(6)):
            await asyncio.sleep(0)
        world.step()
    async with bounded():
        await world.gateway.stop()
    assert world.gateway.state is WorkerState.STOPPED
    assert world.clock.pending == []
    assert [process for process in world.processes if not process.ended] == []
    assert "an error inside the module" not in caplog.text
