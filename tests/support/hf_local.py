"""What the tests of hf_local stand on: its environment with torch, tiny models made in it, a module that runs it.

Where torch cannot be had these tests are skipped, all of them here and with one sentence.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from filelock import FileLock
from support.environments import ROOT, SharedEnvironments
from support.running_module import Served, served
from support.waiting import WAIT_S

from waifu_llm.environment import uv
from waifu_llm.paths import Home

NAME: Final = "hf_local"
PROGRAM: Final = ROOT / "tests" / "support" / "tiny_models.py"
SLOW: Final = 6


@pytest.fixture(scope="session")
def torch_environment(shared_environments: SharedEnvironments) -> Path:
    """The folder of hf_local's environment, built once."""
    sys.path.append(str(ROOT / "scripts"))
    try:
        import wheels
    finally:
        sys.path.pop()
    with pytest.MonkeyPatch.context() as environ:
        for name, value in wheels.torch_choice(os.environ, wheels.pip_folder()).items():
            environ.setenv(name, value)
        problem = why_not()
        if problem is not None:
            pytest.skip(f"NOT TESTED, hf_local: torch cannot be had here. {problem}")
        return shared_environments.build(NAME)


def why_not() -> str | None:
    """Why torch cannot be had, as uv says it; None where it can."""
    table = tomllib.loads((ROOT / "workers" / NAME / "pyproject.toml").read_text("utf-8"))
    pins = table["tool"]["waifu-llm"]["unhashed"]
    argv = [uv.find_uv(), "pip", "install", "--dry-run", "--no-deps", "--only-binary", ":all:"]
    argv += ["--python", sys.executable, "--reinstall", *pins]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL, check=False)
    return None if done.returncode == 0 else " ".join(done.stderr.split())[-500:]


@pytest.fixture(scope="session")
def tiny(torch_environment: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of the tiny models, made once: `hub` is a cache, `models` a configured folder."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "tiny_models"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            made = folder.with_name("tiny_models_begun")
            python = uv.python_of(torch_environment, sys.platform)
            argv = [str(python), "-I", str(PROGRAM), str(made)]
            done = subprocess.run(argv, capture_output=True, encoding="utf-8", check=False)
            assert done.returncode == 0, done.stderr
            made.rename(folder)
    return folder


@contextmanager
def serving(home: Path, environments: SharedEnvironments, env: Mapping[str, str], *flags: str) -> Iterator[Served]:
    """A module, as a process, in whose home hf_local is installed; nothing of the user's hub reaches it."""
    environments.install(home, NAME)
    none = {name: "" for name in os.environ if name.startswith("HF_")}
    own = {"WAIFU_LLM_HOME": str(home), "HF_HOME": str(home / "hf")}
    with served(*flags, env=none | own | dict(env)) as module:
        yield module
        # Not killed: its worker's coverage would be lost.
        module.signal(signal.SIGTERM)
        module.wait()


def patient() -> asyncio.Timeout:
    """`bounded` for what begins with torch's import, which reads hundreds of megabytes on a machine that is busy."""
    return asyncio.timeout(WAIT_S * SLOW)


def log_of(home: Path) -> str:
    """What the worker wrote to its log; nothing where it said nothing yet."""
    log = Home(home).logs / f"{NAME}.log"
    return log.read_text("utf-8", "replace") if log.exists() else ""
