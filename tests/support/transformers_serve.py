"""`transformers serve`: an OpenAI-style server that nobody here wrote, with tiny models, in an environment of its own.

Where torch cannot be had its tests are skipped, all of them here and with one sentence.
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from filelock import FileLock
from support import hf_local
from support.environments import ROOT

from waifu_llm.catalog import read_manifest
from waifu_llm.environment import uv

_LISTENS: Final = re.compile(r"running on (http://\S+)")


@dataclass(frozen=True, slots=True)
class Server:
    """`url`: without the version. `pid`: the process that listens."""

    url: str
    pid: int


@pytest.fixture(scope="session")
def serving_environment(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """An environment with the server, built once for the whole run, and in its `tiny` the models."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "transformers_serve"
    with pytest.MonkeyPatch.context() as environ:
        for name, value in _torch_choice().items():
            environ.setenv(name, value)
        problem = hf_local.why_not()
        if problem is not None:
            pytest.skip(f"NOT TESTED, transformers serve: torch cannot be had here. {problem}")
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                _build(folder.with_name("transformers_serve_begun")).rename(folder)
    return folder


def _torch_choice() -> dict[str, str]:
    sys.path.append(str(ROOT / "scripts"))
    try:
        import wheels
    finally:
        sys.path.pop()
    return wheels.torch_choice(os.environ, wheels.pip_folder())


def _build(folder: Path) -> Path:
    """The server of the same transformers and the same torch that hf_local has."""
    manifest = read_manifest(ROOT / "workers" / hf_local.NAME)
    python = uv.python_of(folder, sys.platform)
    _run(uv.find_uv(), "venv", "--quiet", "--relocatable", "--python", sys.executable, folder)
    what: tuple[str | Path, ...] = (
        "transformers[serving]",
        *manifest.declared.unhashed,
        "--constraints",
        manifest.lock,
    )
    _run(uv.find_uv(), "pip", "install", "--quiet", "--python", python, *what)
    _run(python, "-I", hf_local.PROGRAM, folder / "tiny")
    return folder


def _run(*argv: str | Path) -> None:
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def transformers_serve(serving_environment: Path) -> Iterator[Server]:
    """The server, on a free port; its log is its standard error, read to the line that says where it listens."""
    python = uv.python_of(serving_environment, sys.platform)
    code = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
    argv: list[str | Path] = [
        python,
        "-I",
        "-c",
        code,
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--device",
        "cpu",
    ]
    hub = {"HF_HUB_CACHE": str(serving_environment / "tiny" / "hub"), "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        argv, env={**os.environ, **hub}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stderr is not None
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                found = _LISTENS.search(line)
                if found is not None:
                    break
            else:
                raise AssertionError("".join(said))
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield Server(found[1], process.pid)
        finally:
            process.kill()
