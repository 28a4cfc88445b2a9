"""The command line as functions of this process, and as processes of their own."""

import io
import subprocess
import sys
from dataclasses import dataclass

import pytest

from waifu_llm.cli import main

PROGRAM = (sys.executable, "-m", "waifu_llm.cli")


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


class Cli:
    """Calls `main`; `piped` is what stands on its standard input, which is no terminal."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str, piped: str = "") -> Ran:
        self._capsys.readouterr()
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(piped))
        code = main(arguments)
        captured = self._capsys.readouterr()
        return Ran(code, captured.out, captured.err)


@dataclass(frozen=True)
class Module:
    """A running `waifu-llm serve`."""

    process: subprocess.Popen[str]
    url: str
