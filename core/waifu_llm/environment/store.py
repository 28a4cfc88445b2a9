"""Owns the environments of a home: their state, one build however many ask, their removal."""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from waifu_llm.catalog import Manifest
from waifu_llm.config import UvSettings
from waifu_llm.environment import folders, stamp, uv
from waifu_llm.environment.model import (
    BuildProgress,
    Environment,
    EnvironmentState,
    EnvironmentStatus,
    Estimate,
    Installed,
    Removal,
    Run,
    Size,
)
from waifu_llm.environment.seed import Seed, seed_digests
from waifu_llm.environment.sharing import Flight, is_held, locked, try_lock
from waifu_llm.environment.thread import in_thread
from waifu_llm.errors import Closing, InstallFailed
from waifu_llm.paths import Home

if TYPE_CHECKING:
    from waifu_llm.environment.build import Builder

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_COMPILED: Final = "waifu-llm-compiled"
# How long a stop waits until what a build began is removed: the next start sweeps what is larger than that.
_REMOVAL_S: Final = 2.0


class EnvironmentStore:
    """The environments and seeds in one home. Used from one event loop; other modules may share the home."""

    def __init__(
        self, home: Home, uv: UvSettings, run: Run, environ: Mapping[str, str], build_silence_s: float
    ) -> None:
        self._home = home
        self._building = home, uv, run, environ, build_silence_s
        self._closing = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._flights: dict[Path, Flight] = {}
        self._compiling: dict[Path, asyncio.Task[None]] = {}
        self._proven: set[Path] = set()
        self._seeds: dict[str, tuple[Seed, Path]] = {}
        self._bases: dict[Path, tuple[tuple[int, int], stamp.Basis]] = {}

    @cached_property
    def _builder(self) -> "Builder":
        from waifu_llm.environment.build import Builder  # late, as what looks at files: the module listens before

        return Builder(*self._building)

    def start(self) -> None:
        """Sweep, in the background, what earlier modules left; and say in the log where there is no uv."""
        self._own(self._sweep_leftovers())
        try:
            uv.find_uv()
        except InstallFailed as error:
            _log.warning("nothing can be installed: %s", error.message)

    def status(self, manifest: Manifest) -> EnvironmentStatus:
        """The state of its environment, from a few stats and one small file."""
        try:
            basis = self._basis(manifest)
        except InstallFailed as error:
            return EnvironmentStatus(manifest.name, EnvironmentState.BROKEN, self._home.envs, error.message)
        folder = self._home.envs / basis.folder_name(manifest.name)
        problem = _health(manifest.name, folder, basis)
        if problem is not None:
            return EnvironmentStatus(manifest.name, EnvironmentState.BROKEN, folder, problem)
        if folder.is_dir():
            return EnvironmentStatus(manifest.name, EnvironmentState.READY, folder)
        others = any(other.name == manifest.name for other in self.installed())
        state = EnvironmentState.STALE if others else EnvironmentState.MISSING
        return EnvironmentStatus(manifest.name, state, folder)

    async def ensure(
        self, manifest: Manifest, on_progress: Callable[[BuildProgress], None] | None = None
    ) -> Environment:
        """The environment, built where it is not ready. However many ask at once, one build serves them all.

        Raises: InstallFailed, Closing. Cancelling it is safe: the build goes on, for the others and for later.
        """
        if self._closing:
            raise Closing("the module stops")
        self._basis(manifest)
        status = self.status(manifest)
        _, seed = self._seeds.get(manifest.name, (None, None))
        known = status.state is EnvironmentState.READY and status.folder in self._proven
        if known and seed and seed.is_dir():
            if await in_thread(_missing, status.folder) is None:
                return _environment(status, seed)
            if self._closing:
                raise Closing("the module stops")
        flight = self._flights.get(status.folder)
        if flight is None:
            flight = self._flights[status.folder] = Flight()
            task = self._own(self._fly(manifest, flight))
            task.add_done_callback(flight.settle)
            task.add_done_callback(lambda _: self._flights.pop(status.folder))
        return await flight.wait(on_progress)

    async def close(self) -> None:
        """End every build, and wait a moment for what it began to be removed; who waits for one gets Closing."""
        self._closing = True
        for patience_s in (_REMOVAL_S, None):
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=patience_s)

    def estimate(self, manifest: Manifest) -> Estimate:
        """What a build takes against what is free. Raises: InstallFailed where it cannot fit."""
        return self._builder.estimate(manifest)

    def installed(self) -> list[Installed]:
        """Every environment folder there is, sorted by its path; also those that nobody needs any more."""
        if not self._home.envs.is_dir():
            return []
        found = sorted(folder for folder in self._home.envs.iterdir() if not folder.name.startswith("."))
        return [Installed(folder.name.rpartition("-")[0], folder) for folder in found]

    async def sizes(self, name: str) -> Size:
        """What all environments of that name take. Cancelling it is safe."""
        own = [entry.folder for entry in self.installed() if entry.name == name]
        return sum(await asyncio.gather(*(in_thread(folders.size_of, folder) for folder in own)), Size())

    async def remove(self, name: str) -> list[Removal]:
        """Remove all environments of that name, but none that a live process runs from or that is being built.

        Cancelling it is safe: a folder is there as a whole or gone from its place.
        """
        return await self._remove([entry.folder for entry in self.installed() if entry.name == name])

    async def prune(self, manifests: Iterable[Manifest]) -> list[Removal]:
        """Remove what none of these workers and gateways needs: environments, seeds and leftovers, but none in use.

        Raises: InstallFailed where one of them is damaged, so that what it needs is not known. Cancelling it is safe.
        """
        manifests = list(manifests)
        needed = {self._home.envs / self._basis(manifest).folder_name(manifest.name) for manifest in manifests}
        done = await self._remove([entry.folder for entry in self.installed() if entry.folder not in needed])
        seeds = {self._seed(manifest).digest for manifest in manifests}
        old = [self._home.seed / digest for digest in seed_digests(self._home.seed) if digest not in seeds]
        done += await in_thread(folders.remove_unused, old)
        await in_thread(self._sweep)
        return done

    # One flight.

    async def _fly(self, manifest: Manifest, flight: Flight) -> Environment:
        try:
            return await self._make_ready(manifest, flight.report)
        except OSError as error:
            _log.warning("%s could not be installed", manifest.name, exc_info=error)
            raise self._builder.explain(manifest, error) from error

    async def _make_ready(self, manifest: Manifest, report: Callable[[BuildProgress], None]) -> Environment:
        folders.private(self._home.root, self._home.envs, self._home.locks, self._home.seed)
        seed = await in_thread(self._place_seed, manifest)
        ready = await self._ready(manifest, seed)
        if ready is None:
            async with locked(self._lock_of(self.status(manifest).folder), report):
                # Another module may have built it while this one waited.
                ready = await self._ready(manifest, seed) or await self._build(manifest, seed, report)
        self._proven.add(ready.folder)
        self._compile(ready.folder)
        return ready

    async def _ready(self, manifest: Manifest, seed: Path) -> Environment | None:
        """The environment where it is there and its Python runs, for certain."""
        status = self.status(manifest)
        if status.state is not EnvironmentState.READY:
            return None
        if not _is_same_interpreter(status.folder):
            problem = await self._builder.probe(status.folder)
            if problem is not None:
                _log.warning("the environment %s is broken: %s", status.folder.name, problem)
                return None
        missing = await in_thread(_missing, status.folder)
        if missing is not None:
            _log.warning("the environment %s is broken: its file %s is gone", status.folder.name, missing)
            return None
        return _environment(status, seed)

    async def _build(self, manifest: Manifest, seed: Path, report: Callable[[BuildProgress], None]) -> Environment:
        self.estimate(manifest)
        status = self.status(manifest)
        if status.state in (EnvironmentState.BROKEN, EnvironmentState.READY):
            folders.put_aside(status.folder)
        await in_thread(self._sweep)
        lock, basis = _lock_text(manifest), self._basis(manifest)
        await self._builder.build(manifest, lock, basis, seed, report)
        return _environment(self.status(manifest), seed)

    def _compile(self, folder: Path) -> None:
        if (folder / _COMPILED).exists() or folder in self._compiling:
            return

        async def compile_rest() -> None:
            try:
                if await self._builder.compile(folder):
                    (folder / _COMPILED).touch()
            except OSError as error:
                _log.info("%s was not compiled: %s", folder.name, error)

        task = self._compiling[folder] = self._own(compile_rest())
        task.add_done_callback(lambda _: self._compiling.pop(folder))

    def _own(self, work: Coroutine[None, None, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # What is on the disk.

    async def _remove(self, doomed: list[Path]) -> list[Removal]:
        done: list[Removal] = []
        for folder in doomed:
            compiling = self._compiling.get(folder)
            if compiling is not None:
                compiling.cancel()
                await asyncio.wait({compiling})
            folders.private(self._home.root, self._home.locks)
            release = try_lock(self._lock_of(folder)) if folder not in self._flights else None
            if release is None:
                done.append(Removal(folder, kept="it is being installed"))
                continue
            try:
                done += await in_thread(folders.remove_unused, [folder])
            finally:
                release()
            self._proven.discard(folder)
        return done

    async def _sweep_leftovers(self) -> None:
        try:
            await in_thread(self._sweep)
        except OSError as error:
            _log.info("what earlier installs left was not removed: %s", error)

    def _sweep(self) -> None:
        folders.sweep(self._home.envs, self._is_building)
        # Seeds are written without a lock; they are small, so that a stranger's pid may keep one a while longer.
        folders.sweep(self._home.seed, lambda: True)

    def _is_building(self) -> bool:
        return any(is_held(lock) for lock in self._home.locks.glob("*.lock"))

    def _lock_of(self, folder: Path) -> Path:
        return self._home.locks / f"{folder.name}.lock"

    def _basis(self, manifest: Manifest) -> stamp.Basis:
        try:
            info = manifest.lock.stat()
        except OSError as error:
            raise _no_lock(manifest, error) from error
        key = (info.st_mtime_ns, info.st_size)
        known = self._bases.get(manifest.lock)
        if known is None or known[0] != key or known[1].unhashed != manifest.declared.unhashed:
            known = key, stamp.Basis.here(_lock_text(manifest), manifest.declared.unhashed)
            self._bases[manifest.lock] = known
        return known[1]

    def _seed(self, manifest: Manifest) -> Seed:
        try:
            return Seed(manifest)
        except OSError as error:
            raise InstallFailed(f"{manifest.name}'s own code cannot be read ({error})"[:300]) from error

    def _place_seed(self, manifest: Manifest) -> Path:
        seed, _ = self._seeds.get(manifest.name) or (self._seed(manifest), None)
        folder = seed.place(self._home.seed)
        self._seeds[manifest.name] = seed, folder
        return folder


def _environment(status: EnvironmentStatus, seed: Path) -> Environment:
    return Environment(status.name, status.folder, uv.python_of(status.folder, sys.platform), seed)


def _health(name: str, folder: Path, basis: stamp.Basis) -> str | None:
    """Why the environment in `folder` cannot be used, as a sentence; None where it can, or is not there."""
    try:
        if folder.is_symlink():
            return "its folder is a link"
        if not folder.exists():
            return None
        data = (folder / stamp.STAMP_FILE).read_bytes()
    except FileNotFoundError:
        return "it has no stamp"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    problem = stamp.problem(data, name, basis)
    if problem is None and not uv.python_of(folder, sys.platform).exists():
        return "the Python that it was made from is gone"
    return problem


def _is_same_interpreter(folder: Path) -> bool:
    """Whether the binary behind its python is the one that ran when it was built; then it need not be run again."""
    from waifu_llm.environment.verify import interpreter_identity

    try:
        recorded = stamp.recorded((folder / stamp.STAMP_FILE).read_bytes())
        return recorded.identity == interpreter_identity(uv.python_of(folder, sys.platform))
    except (OSError, ValueError):
        return False


def _missing(folder: Path) -> str | None:
    """A file of a finished environment that is gone, or cannot be looked for."""
    from waifu_llm.environment.verify import missing_file

    try:
        return missing_file(folder, stamp.recorded((folder / stamp.STAMP_FILE).read_bytes()).packages)
    except (OSError, ValueError):
        return stamp.STAMP_FILE


def _lock_text(manifest: Manifest) -> str:
    try:
        return manifest.lock.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise _no_lock(manifest, error) from error


def _no_lock(manifest: Manifest, error: Exception) -> InstallFailed:
    made = f"install waifu-llm again, or, for one of your own in a clone, run: python3 scripts/lock.py {manifest.name}"
    return InstallFailed(f"{f'{manifest.name} has no list of packages to install ({error})'[:180]}; {made}")
