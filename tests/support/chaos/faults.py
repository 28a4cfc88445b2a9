"""What goes wrong in a chaos run, chosen by its seed: processes die and freeze, services and installs fail."""

import asyncio
import contextlib
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Final

import psutil
from fakes.upstream.server import Upstream
from support.chaos.clients import World
from support.chaos.module import ChaosModule
from support.chaos.program import DISK_FULL
from support.waiting import FACTOR

from waifu_llm.supervision.life import SILENCE_S

_LOOK_AGAIN_S: Final = 0.005
_INSTALL_S: Final = 10.0 * FACTOR
_TRIES: Final = 5


class Faults:
    """Hurts one module and its upstream. `note` is told what is done, and to whom."""

    def __init__(self, module: ChaosModule, world: World, upstream: Upstream, note: Callable[..., None]) -> None:
        self._module = module
        self._world = world
        self._upstream = upstream
        self._note = note
        self._frozen: set[psutil.Process] = set()

    async def any(self, rng: Random, seconds_left: float) -> None:
        """One fault, and a moment of peace after it."""
        kinds: list[Callable[[Random], Awaitable[None]]] = [*[self._kill] * 5, *[self._freeze] * 2, *[self._cut] * 2]
        if seconds_left > 2 * SILENCE_S:
            kinds.append(self._freeze_for_good)
        await rng.choice(kinds)(rng)
        await asyncio.sleep(rng.uniform(0.0, 0.8))

    def thaw(self) -> None:
        """Nobody stays frozen."""
        for process in self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        self._frozen.clear()

    async def _kill(self, rng: Random) -> None:
        for worker in self._any_worker(rng):
            self._do("kill -9 worker", worker, signal.SIGKILL)

    async def _freeze(self, rng: Random) -> None:
        for worker in self._any_worker(rng):
            self._frozen.add(worker)
            self._do("SIGSTOP worker", worker, signal.SIGSTOP)
            await asyncio.sleep(rng.uniform(0.05, 1.5))
            self.thaw()

    async def _freeze_for_good(self, rng: Random) -> None:
        """The module must notice by itself that there is no sign of life."""
        for worker in self._any_worker(rng):
            self._do("SIGSTOP worker for good", worker, signal.SIGSTOP)

    async def _cut(self, rng: Random) -> None:
        self._note("upstream cut")
        self._upstream.stop()

    def _any_worker(self, rng: Random) -> list[psutil.Process]:
        workers = sorted(self._module.workers(), key=lambda worker: worker.pid)
        return [rng.choice(workers)] if workers else []

    def _do(self, what: str, process: psutil.Process, number: signal.Signals) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
            self._note(what, f"{process.pid} {self._module.seen.get(process, '')[-80:]}")

    async def install(self, who: str, rng: Random) -> None:
        """The environment of `victim` is gone; its install meets a fault, and the next loads must heal it."""
        fault = rng.choice(("none", "kill -9 uv", "disk full", "client leaves"))
        async with self._world.visit(who, rng) as visit:
            if rng.random() < 0.7:
                await visit.ended(visit.ask("unload", provider="victim"))
            await asyncio.to_thread(self._remove_environment)
            self._note(f"environment removed, install: {fault}")
            flag = self._module.home.root / DISK_FULL
            if fault == "disk full":
                flag.touch()
            loading = asyncio.ensure_future(visit.load("victim"))
            try:
                if fault == "kill -9 uv":
                    await self._kill_uv(rng, loading)
                if fault == "client leaves":
                    await asyncio.sleep(rng.uniform(0.0, 0.5))
                    visit.vanish()
                await loading
                # Without one a load may succeed too: its worker runs still.
                if fault == "disk full" and self._environments():
                    self._world.ledger.breach("E6: an install succeeded on a full disk")
            finally:
                flag.unlink(missing_ok=True)
                loading.cancel()
        await self._heal(who, rng)

    async def _kill_uv(self, rng: Random, loading: asyncio.Future[bool]) -> None:
        skip = rng.randint(0, 1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_INSTALL_S):
                while not loading.done():
                    for uv in self._module.installers()[:1]:
                        await asyncio.sleep(rng.uniform(0.0, 0.05))
                        if skip:
                            skip -= 1
                        else:
                            self._do("kill -9 uv", uv, signal.SIGKILL)
                            return
                    await asyncio.sleep(_LOOK_AGAIN_S)

    async def _heal(self, who: str, rng: Random) -> None:
        """Workers are killed all the while, so that one try may fail; several in a row may not."""
        told = ""
        for number in range(_TRIES):
            async with self._world.visit(f"{who}/heal{number}", rng) as visit:
                if await visit.load("victim"):
                    return
                told = visit.told
        self._world.ledger.breach(f"E1: {_TRIES} loads after a failed install did not succeed: {told}")

    def _environments(self) -> list[Path]:
        return list(self._module.home.envs.glob("victim-*"))

    def _remove_environment(self) -> None:
        for number, folder in enumerate(self._environments()):
            aside = self._module.home.root / f"removed-{number}"
            folder.rename(aside)
            shutil.rmtree(aside)
