"""Commands as functions of this process, and a running module as a process of its own."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.command_line import PROGRAM, Cli, Module
from support.environments import ROOTS
from support.waiting import WAIT_S

from waifu_llm import catalog


@pytest.fixture(autouse=True)
def two_workers(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands in this process know two of the module's workers, however many there will be."""
    folder = tmp_path_factory.mktemp("bundle") / "workers"
    for name in ("echo", "openai"):
        shutil.copytree(ROOTS[0] / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(catalog, "bundled_roots", lambda: (folder,))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(capsys, monkeypatch)


@pytest.fixture
def serve(home: Path) -> Iterator[Callable[..., Module]]:
    """`serve("--no-remote-close")`: a module on a free port, gone when the test ends."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> Module:
        process = subprocess.Popen(
            [*PROGRAM, "serve", "--port", "0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "WAIFU_LLM_HOME": str(home)},
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert re.match(r"waifu-llm listens at wss?://127\.0\.0\.1:", line), line
        return Module(process, line.split()[3])

    yield start
    for process in running:
        process.terminate()
        process.communicate(timeout=WAIT_S)
