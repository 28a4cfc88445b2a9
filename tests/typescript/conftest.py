"""Node and what the TypeScript client needs; without Node the tests of this folder are skipped, and say so."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
from filelock import FileLock

PACKAGE: Final = Path(__file__).resolve().parents[2] / "clients" / "typescript"
INSTALL_S: Final = 300.0


@pytest.fixture(scope="session")
def node() -> str:
    """The Node program."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("NODE IS MISSING: the TypeScript client is not tested here; install Node 20 or newer")
    return found


@pytest.fixture(scope="session")
def archive(node: str, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The TypeScript client as `npm pack` packs it, its packages installed as locked, once per run."""
    own = tmp_path_factory.getbasetemp()
    run = own if worker_id == "master" else own.parent
    packed = run / "typescript-packed"
    npm = shutil.which("npm")
    assert npm is not None, "Node is here without npm"
    with FileLock(run / "typescript.lock"):
        if not packed.exists():
            stamp = PACKAGE / "node_modules" / ".waifu-llm-installed"
            lock = (PACKAGE / "package-lock.json").read_bytes()
            if not stamp.is_file() or stamp.read_bytes() != lock:
                subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=PACKAGE, check=True, timeout=INSTALL_S)
                stamp.write_bytes(lock)
            # It builds first: an archive without what was built would be empty.
            shutil.rmtree(PACKAGE / "dist", ignore_errors=True)
            command = [npm, "pack", "--silent", "--pack-destination", str(run)]
            subprocess.run(command, cwd=PACKAGE, check=True, timeout=INSTALL_S, stdout=subprocess.DEVNULL)
            packed.touch()
    (found,) = run.glob("waifu-llm-client-*.tgz")
    return found


@pytest.fixture
def package(archive: Path) -> Path:
    """The folder of the TypeScript client, built."""
    return PACKAGE
