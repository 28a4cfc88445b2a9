"""kill -9 of the module at random moments: idle, loading, installing, streaming. Nobody and nothing half-done stays."""

import asyncio
import contextlib
import shutil
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

import psutil
from support.chaos.ledger import Ledger, Plan
from support.chaos.module import ChaosModule
from support.chaos.plans import CANARIES
from support.chaos.visit import Visit
from support.chaos.watch import unfinished
from support.report import say
from support.waiting import FACTOR

from waifu_llm.environment.verify import missing_file, site_packages

_ORPHANS_S: Final = 5.0 * FACTOR
_LOOK_AGAIN_S: Final = 0.01
_LATEST_S: Final = {"idle": 0.1, "loading": 0.5, "installing": 1.0, "streaming": 0.2}
_UPSTREAM: Final = "http://127.0.0.1:1"


class _Kills:
    """All rounds share one home, so that what one leaves behind meets the next."""

    def __init__(self, root: Path, seed: int) -> None:
        self._root = root
        self._ledger = Ledger(CANARIES)
        self._rng = Random(f"{seed}/core kills")
        self.breaches: list[str] = []
        self.stages: Counter[str] = Counter()
        self.longest_s = 0.0
        self.ended = 0

    async def round(self) -> None:
        """Start, do something, die at a random moment of it, look around."""
        stage = self._rng.choice(sorted(_LATEST_S))
        module = await ChaosModule.start(self._root, {"WAIFU_FAKE_START": "ignore-term"})
        try:
            await self._reach(stage, module)
            await asyncio.sleep(self._rng.uniform(0.0, _LATEST_S[stage]))
            self.ended += len(module.descendants())
        finally:
            await module.kill()
        self.stages[stage] += 1
        await self._nobody_lives(stage, module)
        for folder in unfinished(module.home.envs):
            self.breaches.append(f"{stage}: {folder.name} is half-built")
        for folder in module.home.envs.glob("[!.]*"):
            packages = [info.parent.name.removesuffix(".dist-info") for info in site_packages(folder).glob("*/RECORD")]
            if (missing := missing_file(folder, packages)) is not None:
                self.breaches.append(f"{stage}: {missing} of {folder.name} is missing")

    async def _reach(self, stage: str, module: ChaosModule) -> None:
        """Until it is in that stage; it goes on in it."""
        visit = await Visit(self._ledger, stage, self._rng, _UPSTREAM).open(module.url)
        match stage:
            case "loading":
                visit.ask("load", provider=self._rng.choice(("fake", "echo")))
            case "installing":
                for folder in module.home.envs.glob("victim-*"):
                    shutil.rmtree(folder)
                visit.ask("load", provider="victim")
            case "streaming":
                if await visit.load("fake"):
                    # Some of these hear no signal but the last, and never look at their input again.
                    how = self._rng.choice(("count=1000000", "deaf=3", "stop=3", "hold=3", "spin=3"))
                    await visit.heard(visit.generate(Plan("fake", how)), 1)

    async def _nobody_lives(self, stage: str, module: ChaosModule) -> None:
        began = time.monotonic()
        while True:
            alive = self._remaining(module)
            if not alive or time.monotonic() - began > _ORPHANS_S:
                break
            await asyncio.sleep(_LOOK_AGAIN_S)
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        for child in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.breaches.append(f"{stage}: {child.pid} outlived the core: {' '.join(child.cmdline())}")
                child.kill()

    def _remaining(self, module: ChaosModule) -> set[psutil.Process]:
        """Those that were seen, and whoever runs a program of this home: one may have been started last."""
        found = set(module.survivors())
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self._root) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    found.add(process)
        return found

    async def next_start_heals(self) -> None:
        """After the last kill the module starts, and loads what was being installed, with no manual step."""
        module = await ChaosModule.start(self._root)
        try:
            visit = await Visit(self._ledger, "after all", self._rng, _UPSTREAM).open(module.url)
            for provider in ("fake", "victim"):
                if not await visit.load(provider):
                    self.breaches.append(f"{provider} cannot be loaded after the kills")
            await visit.leave()
            module.process.terminate()
            await module.ended(_ORPHANS_S * 2)
            for folder in module.home.envs.glob(".*"):
                self.breaches.append(f"{folder.name} was left behind and not swept")
        finally:
            await module.kill()


async def kill_cores(root: Path, seed: int, rounds: int) -> int:
    """Kill a core so many times. Prints what was done; returns the exit code."""
    kills = _Kills(root, seed)
    for _ in range(rounds):
        await kills.round()
    await kills.next_start_heals()
    for stage, count in sorted(kills.stages.items()):
        say(f"killed {stage:<44} {count:>9,}")
    say(f"figure {'descendants that were there to be ended':<44} {kills.ended:>9,}")
    say(f"figure {'longest until the last of them was gone':<44} {kills.longest_s * 1000:>6.0f} ms")
    say(f"{rounds} kills of the core, {len(kills.breaches)} descendants or half-built environments left")
    for sentence in kills.breaches[:20]:
        say(f"  seed {seed}: {sentence}")
    return 1 if kills.breaches else 0
