"""Real environments, built once for a whole run of the tests by the module's own store, and copied from there.

Run as a program it builds one: `python environments.py HOME NAME`.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from filelock import FileLock
from msgspec.structs import replace

from waifu_llm.catalog import Catalog, read_manifest
from waifu_llm.config import UvSettings
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.environment.verify import site_packages
from waifu_llm.paths import Home
from waifu_llm.supervision.process import Processes

ROOT: Final = Path(__file__).resolve().parents[2]
ROOTS: Final = (ROOT / "workers", ROOT / "gateways")
FAKES: Final = ROOT / "tests" / "fakes"
FAKE: Final = FAKES / "worker"
FAKE_GATEWAY: Final = FAKES / "gateway"
COVERAGE: Final = "COVERAGE_PROCESS_START"
SILENCE_S: Final = 900.0
COMPILE_S: Final = 60.0

# The one .pth with code that may lie in a worker's environment, and only the tests put it there: a worker's own
# variables are a closed list, so that coverage's cannot reach it. It names the config file and is gone at once.
_PTH: Final = (
    "import os; os.environ['{variable}'] = {config!r}; import coverage; coverage.process_startup(); "
    "del os.environ['{variable}']\n"
)


def catalog() -> Catalog:
    """The module's own workers and gateways, the misbehaving ones of the tests, and two that contradict.

    The misbehaving worker is called fake, the misbehaving gateway fake_gateway.
    """
    own = Catalog.read(ROOTS)
    fakes = [replace(read_manifest(FAKE), name="fake"), replace(read_manifest(FAKE_GATEWAY), name="fake_gateway")]
    contradicting = [read_manifest(folder) for folder in sorted(FAKES.glob("contradiction_*"))]
    return Catalog({manifest.name: manifest for manifest in (*own.all(), *fakes, *contradicting)}, own.broken)


class SharedEnvironments:
    """A home outside of every test's. `build` builds each environment once, whichever process asks first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def build(self, name: str) -> Path:
        """The folder of the finished environment."""
        done = self._folder / f"{name}.done"
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / f"{name}.lock"):
            if not done.exists():
                argv = [sys.executable, __file__, str(self._folder / "home"), name]
                built = subprocess.run(argv, capture_output=True, encoding="utf-8", check=False)
                assert built.returncode == 0, built.stderr
                done.write_text(built.stdout.strip(), "utf-8")
        return Path(done.read_text("utf-8"))

    def install(self, home: Path, *names: str) -> None:
        """Put these environments into a home, as if they had been built there. Files are shared: never write to one."""
        for name in names:
            built = self.build(name)
            target = Home(home).envs / built.name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(built, target, symlinks=True, copy_function=os.link)


async def _build(home: Home, name: str) -> Path:
    async with Processes() as processes:
        store = EnvironmentStore(home, UvSettings(), processes.run, os.environ, SILENCE_S)
        try:
            folder = (await store.ensure(catalog().find(name))).folder
            # It goes on compiling in the background: once here, or in every test that uses a copy.
            if others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others, timeout=COMPILE_S)
            return folder
        finally:
            await store.close()


def _measure(folder: Path) -> None:
    """Let the workers of this environment measure their coverage."""
    config = os.environ.get(COVERAGE)
    if config is None or sys.platform == "win32":
        return
    import coverage

    site = site_packages(folder)
    (site / "coverage").symlink_to(Path(coverage.__file__).parent)
    (site / "waifu-llm-tests-coverage.pth").write_text(_PTH.format(variable=COVERAGE, config=config), "utf-8")


if __name__ == "__main__":
    environment = asyncio.run(_build(Home(Path(sys.argv[1])), sys.argv[2]))
    _measure(environment)
    sys.stdout.write(f"{environment}\n")
