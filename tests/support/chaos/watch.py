"""What an observer of a chaos run sees all the while: I3, I4, I5, I7, whether the loop is late, how memory grows."""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Final

import psutil
from support.chaos.clients import World
from support.chaos.module import ChaosModule

from waifu_llm.environment.stamp import STAMP_FILE

_LOOK_S: Final = 0.25
_ZOMBIE_S: Final = 5.0
_SECRETS_EVERY: Final = 8


class Watch:
    """Looks at the module from outside until it is cancelled."""

    def __init__(self, module: ChaosModule, world: World) -> None:
        self.late_ms: list[float] = []
        self.memory_mb = 0.0
        self.zombie_s = 0.0
        self._module = module
        self._world = world
        self._zombies: dict[psutil.Process, float] = {}
        self._told: set[psutil.Process] = set()

    async def run(self) -> None:
        """Look, again and again. A module that has ended is a breach."""
        looks = 0
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._module.process.returncode is not None:
                self._breach(f"the module ended with {self._module.process.returncode}")
                return
            looks += 1
            self.late_ms.append((await self._module.inside())["late_ms"])
            with contextlib.suppress(psutil.Error):
                self.memory_mb = max(self.memory_mb, psutil.Process(self._module.pid).memory_info().rss / 2**20)
            self.look_at_processes(secrets=looks % _SECRETS_EVERY == 0)
            self._look_at_environments()
            self._look_at_requests()

    def _breach(self, sentence: str) -> None:
        self._world.ledger.breach(sentence)

    def look_at_processes(self, *, secrets: bool) -> None:
        """Once. `zombie_s` is the longest that any was seen as one; who stays too long is told of once."""
        now, alive = time.monotonic(), self._module.descendants()
        self._zombies = {child: self._zombies.get(child, now) for child in alive if _is_zombie(child)}
        self.zombie_s = max([self.zombie_s, *(now - since for since in self._zombies.values())])
        late = {child for child, since in self._zombies.items() if now - since > _ZOMBIE_S}
        for child in late - self._told:
            self._breach(f"I3: {child.pid} has been a zombie for over {_ZOMBIE_S:g} s, {self._origin(child)}")
        self._told |= late
        if secrets:
            for child in alive:
                with contextlib.suppress(psutil.Error):
                    told = " ".join([*child.cmdline(), *child.environ().values()])
                    self._world.ledger.check_secrets(f"the arguments or variables of {child.pid}", told)

    def _origin(self, child: psutil.Process) -> str:
        """What it was, and whose it is to take away."""
        with contextlib.suppress(psutil.Error):
            parent = child.parent()
            whose = (
                "nobody" if parent is None else f"{parent.pid} ({parent.status()}: {' '.join(parent.cmdline())[:80]})"
            )
            return f"left by {whose}: {self._module.seen.get(child, '')[:120]}"
        return "just taken away"

    def _look_at_environments(self) -> None:
        for folder in unfinished(self._module.home.envs):
            self._breach(f"I4: {folder.name} is there without its stamp")

    def _look_at_requests(self) -> None:
        now = time.monotonic()
        for visit in tuple(self._world.visits):
            for request in visit.book.overdue(now):
                self._world.ledger.lost += 1
                self._breach(f"I7: {request.who} still waits for {request.kind} {request.plan}")
                request.deadline = float("inf")


def unfinished(envs: Path) -> list[Path]:
    """Environments under their final names that nothing vouches for."""
    folders = [folder for folder in envs.glob("[!.]*") if folder.is_dir()]
    return [folder for folder in folders if not (folder / STAMP_FILE).is_file() and folder.exists()]


def leftovers(envs: Path) -> list[Path]:
    """Builds that were not tidied up."""
    return sorted(envs.glob(".*"))


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
