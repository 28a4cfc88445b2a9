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
def package(node: str, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of the TypeScript client, its packages installed as locked and itself built, once per run."""
    own = tmp_path_factory.getbasetemp()
    run = own if worker_id == "master" else own.parent
    built = run / "typescript-built"
    npm = shutil.which("npm")
    assert npm is not None, "Node is here without npm"
    with FileLock(run / "typescript.lock"):
        if not built.exists():
            stamp = PACKAGE / "node_modules" / ".waifu-llm-installed"
            lock = (PACKAGE / "package-lock.json").read_bytes()
            if not stamp.is_file() or stamp.read_bytes() != lock:
                subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=PACKAGE, check=True, timeout=INSTALL_S)
                stamp.write_bytes(lock)
            subprocess.run([npm, "run", "--silent", "build"], cwd=PACKAGE, check=True, timeout=INSTALL_S)
            built.touch()
    return PACKAGE
