"""The chaos run: everything goes wrong at once for a while, and then it must be as if nothing had happened."""

import argparse
import asyncio
import contextlib
import itertools
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any, Final

from fakes.upstream.server import OpenAI, Upstream, running
from support.chaos.clients import KINDS, World
from support.chaos.faults import Faults
from support.chaos.kills import kill_cores
from support.chaos.ledger import Ledger, Plan
from support.chaos.module import Census, ChaosModule
from support.chaos.plans import CANARIES, PROVIDERS, healthy_plan
from support.chaos.visit import Overdue, Visit
from support.chaos.watch import Watch, leftovers, unfinished
from support.raw_websocket import Refused
from support.report import say
from support.waiting import FACTOR

_CLIENTS: Final = 8
# Some ten seconds: what stayed too long began longer ago than it may stay.
_TRACE: Final = 200
_STOP_S: Final = 10.0 * FACTOR
_ORPHANS_S: Final = 5.0 * FACTOR
_RECOVERY: Final = 5
_AGAIN: Final = 3
# Of small pieces the allocator cannot hand back the pages between them; a leak goes beyond this in minutes.
_MOST_GROWTH_MB: Final = 96.0
_LONGEST_CHECKED: Final = 64 * 2**20


class ChaosRun:
    """One run. `result` after it: 0 where every promise held."""

    def __init__(self, seconds: float, seed: int) -> None:
        self.seed = seed
        self.ledger = Ledger(CANARIES)
        self._end = time.monotonic() + seconds
        self._seconds = seconds
        self._began = time.monotonic()
        self._done: Counter[str] = Counter()
        self._trace: deque[str] = deque(maxlen=_TRACE)
        self._broken_at: list[str] = []
        self.delta: dict[str, int] = {}
        self._orphans = 0
        self._figures: dict[str, str] = {}

    async def run(self, root: Path) -> int:
        """All of it, in a home at `root`. Returns the exit code; raises what is no broken promise but a bug of ours."""
        async with running(OpenAI()) as upstream:
            module = await ChaosModule.start(root)
            try:
                world = World(module.url, upstream.url, self.ledger)
                await self._warm_up(world)
                before = await module.settled()
                await self._storm(module, world, upstream)
                await self._recover(world)
                await self._unload(world)
                upstream.stop()
                self._compare(before, await module.settled(before))
                await self._close(module, world)
            finally:
                await module.kill()
            await self._look_behind(module)
        return self.tell()

    async def _warm_up(self, world: World) -> None:
        """Every provider is installed and has worked once, so that what is counted then is no first time."""
        for provider in PROVIDERS:
            async with world.visit(f"warm up {provider}", Random(self.seed)) as visit:
                assert await visit.load(provider), f"before anything went wrong: {visit.told}"
        await self._unload(world)
        self._end = time.monotonic() + self._seconds
        self._began = time.monotonic()

    async def _storm(self, module: ChaosModule, world: World, upstream: Upstream) -> None:
        faults, watch = Faults(module, world, upstream, self.note), Watch(module, world)
        watching = asyncio.ensure_future(watch.run())
        actors: list[Coroutine[Any, Any, None]] = [self._client(world, number) for number in range(_CLIENTS)]
        actors.append(self._hurt(faults))
        actors.append(self._install(faults))
        try:
            async with asyncio.TaskGroup() as group:
                for actor in actors:
                    group.create_task(actor)
        finally:
            faults.thaw()
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        late = sorted(watch.late_ms) or [0.0]
        self._figures["the loop was late, ms"] = f"p50 {late[len(late) // 2]:.1f}, worst {late[-1]:.1f}"
        self._figures["a descendant was a zombie at most"] = f"{watch.zombie_s:.1f} s"
        self._figures["memory of the core at most"] = f"{watch.memory_mb:.0f} MiB"

    def _goes_on(self) -> bool:
        return time.monotonic() < self._end

    async def _client(self, world: World, number: int) -> None:
        rng = Random(f"{self.seed}/client/{number}")
        names, weights = list(KINDS), [weight for weight, _ in KINDS.values()]
        for visit in itertools.count():
            if not self._goes_on():
                return
            (kind,) = rng.choices(names, weights)
            self.note(f"client: {kind}")
            await self._guarded(KINDS[kind][1](world, f"{kind} {number}.{visit}", rng))

    async def _hurt(self, faults: Faults) -> None:
        rng = Random(f"{self.seed}/faults")
        while self._goes_on():
            await faults.any(rng, self._end - time.monotonic())

    async def _install(self, faults: Faults) -> None:
        rng = Random(f"{self.seed}/installs")
        for number in itertools.count():
            if not self._goes_on():
                return
            await self._guarded(faults.install(f"install {number}", rng))
            await asyncio.sleep(rng.uniform(0.0, 1.0))

    async def _guarded(self, visit: Coroutine[Any, Any, None]) -> None:
        before = len(self.ledger.breaches)
        try:
            await visit
        except Overdue as error:
            self.ledger.lost += 1
            self.ledger.breach(f"I7: {error}")
        except (OSError, Refused) as error:
            self.ledger.breach(f"a client met {type(error).__name__}: {error}")
        if len(self.ledger.breaches) > before and not self._broken_at:
            self._broken_at = list(self._trace)

    def note(self, what: str, whom: str = "") -> None:
        self._done[what] += 1
        self._trace.append(f"{time.monotonic() - self._began:8.2f} s  {what} {whom}".rstrip())

    async def _recover(self, world: World) -> None:
        """Nothing goes wrong any more: now everything works."""
        rng = Random(f"{self.seed}/recovery")
        for number in range(_RECOVERY):
            plan = healthy_plan(rng)
            # A worker that ignores a cancel of the last client is killed some time later, with whom it serves then.
            told = [await self._serves(world, f"recovery {number}.{again}", plan, rng) for again in range(_AGAIN)]
            if all(told):
                self.ledger.breach(f"{plan} does not succeed after all is over: {told[-1]}")

    async def _serves(self, world: World, who: str, plan: Plan, rng: Random) -> str:
        """What was wrong; nothing where it succeeded."""
        async with world.visit(who, rng) as visit:
            if not await visit.load(plan.provider):
                return visit.told
            request = visit.generate(plan)
            await visit.ended(request)
            return "" if request.outcome == "SUCCESS" else f"{request.outcome}: {request.told}"

    async def _unload(self, world: World) -> None:
        async with world.visit("unload", Random(0)) as visit:
            await visit.ended(*(visit.ask("unload", provider=provider) for provider in PROVIDERS))

    def _compare(self, before: Census, after: Census) -> None:
        self.delta = {name: max(0, more) for name, more in after.beyond(before).items()}
        for name, more in self.delta.items():
            if more:
                self.ledger.breach(f"I6: {more} {name} more than before: {before} -> {after}")
        self._figures["memory of the core in use"] = f"{before.memory_mb:.0f} MiB before, {after.memory_mb:.0f} after"
        if after.memory_mb > before.memory_mb + _MOST_GROWTH_MB:
            self.ledger.breach(f"memory in use grew from {before.memory_mb:.0f} to {after.memory_mb:.0f} MiB")

    async def _close(self, module: ChaosModule, world: World) -> None:
        """A client says close while another one's stream runs: acknowledged, interrupted, ended in time."""
        streaming = await Visit(self.ledger, "streaming", Random(0), world.upstream).open(world.url)
        closing = await Visit(self.ledger, "closing", Random(0), world.upstream).open(world.url)
        await streaming.load("fake")
        request = streaming.generate(Plan("fake", "hang=3", whole="0 1 2 ", fails=True))
        await streaming.heard(request, 1)
        await closing.ended(closing.ask("close"))
        await streaming.ended(request)
        module.descendants()
        if request.outcome != "INTERRUPT":
            self.ledger.breach(f"R9: a stream ended with {request.outcome!r} at the close")
        await streaming.socket.closed
        await closing.socket.closed
        try:
            code = await module.ended(_STOP_S)
        except TimeoutError:
            self.ledger.breach(f"R9: the module has not ended {_STOP_S:g} s after its close")
        else:
            if code != 0:
                self.ledger.breach(f"R9: the module's exit code was {code}")

    async def _look_behind(self, module: ChaosModule) -> None:
        end = time.monotonic() + _ORPHANS_S
        while True:
            alive = module.survivors()
            if not alive or time.monotonic() > end:
                break
            await asyncio.sleep(0.05)
        self._orphans = len(alive)
        for child in alive:
            self.ledger.breach(f"I3: {child.pid} survived the module: {module.seen[child]}")
            child.kill()
        for folder in (*leftovers(module.home.envs), *unfinished(module.home.envs)):
            self.ledger.breach(f"I4: {folder.name} was left behind")
        files = [module.home.root / "stderr", *module.home.logs.rglob("*"), *module.home.run.rglob("*")]
        for file in files:
            if file.is_file() and file.stat().st_size < _LONGEST_CHECKED:
                self.ledger.check_secrets(file.name, file.read_text("utf-8", "replace"))

    def tell(self) -> int:
        """Print the table and the verdict."""
        tables = (("done", self._done), ("asked", self.ledger.done), ("ended", self.ledger.outcomes))
        for title, counter in tables:
            for name, count in sorted(counter.items()):
                say(f"{title:<6} {name:<44} {count:>9,}")
        for name, figure in self._figures.items():
            say(f"figure {name:<44} {figure}")
        lost, double = self.ledger.lost, self.ledger.double
        kinds = ("fds", "tasks", "threads", "children")
        deltas = [self.delta.get(kind, -1) for kind in kinds]
        delta = "0" if not any(deltas) else "/".join(map(str, deltas))
        say(f"{lost} lost, {double} double, {self._orphans} orphans, fd/task/thread/child delta {delta}")
        if not self.ledger.breaches:
            return 0
        say(f"\nseed {self.seed}: {len(self.ledger.breaches)} promises were broken")
        for sentence in self.ledger.breaches[:20]:
            say(f"  {sentence}")
        say("what was done before the first one:")
        for line in self._broken_at or self._trace:
            say(f"  {line}")
        return 1


def main() -> int:
    """The command line: see `scripts/chaos.py`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None, help="the same seed makes the same choices")
    parser.add_argument("--kill-core", type=int, metavar="N", help="instead: kill -9 the core N times")
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else Random().randrange(10**6)
    say(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="waifu-llm-chaos-", ignore_cleanup_errors=True) as folder:
        if asked.kill_core is not None:
            return asyncio.run(kill_cores(Path(folder), seed, rounds=asked.kill_core))
        return asyncio.run(ChaosRun(asked.seconds, seed).run(Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
