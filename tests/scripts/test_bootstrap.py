"""Commands that make what they need say what to do where they cannot work, instead of failing with a traceback."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import WAIT_S

ROOT = Path(__file__).resolve().parents[2]
OF_THE_PROJECT = ("lock.py", "command_line_docs.py")
SCRIPTS = ("demo.py", "test.py", "chaos.py", "load.py", "flat_memory.py", "fuzz.py", *OF_THE_PROJECT)
# Runs a script as if this Python had not the project in it, and had been packaged or made otherwise.
AS_IF = (
    "import runpy, sys; sys.modules['waifu_llm'] = None; {change}; "
    "sys.argv = [sys.argv[1]]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout without a virtual environment."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run_as_if(change: str, script: Path) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-c", AS_IF.format(change=change), str(script)]
    return subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=WAIT_S, check=False)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_python_without_venv_is_told_which_package_to_install(clone: Path, script: str) -> None:
    done = run_as_if("sys.modules['ensurepip'] = None", clone / "scripts" / script)
    assert done.returncode == 1
    assert f"sudo apt install python3.{sys.version_info[1]}-venv" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_python_that_is_too_old_is_told_so(clone: Path, script: str) -> None:
    done = run_as_if("sys.version_info = (3, 9, 1)", clone / "scripts" / script)
    assert done.returncode == 1
    assert "needs Python 3.11 or newer; this is 3.9" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("script", [*SCRIPTS, "bootstrap.py"])
def test_an_old_python_can_read_what_tells_it_so(script: str) -> None:
    ast.parse((ROOT / "scripts" / script).read_text("utf-8"), feature_version=(3, 8))


@pytest.mark.skipif(sys.platform == "win32", reason="a script with a first line is no program there")
@pytest.mark.parametrize("script", OF_THE_PROJECT)
def test_a_script_that_needs_the_project_goes_on_with_the_environment_that_has_it(clone: Path, script: str) -> None:
    """The page on adding a provider says `python3 scripts/lock.py`, which ended with ModuleNotFoundError."""
    python = clone / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\nexit 7\n')
    python.chmod(0o755)
    made = "import sys; sys.path.insert(0, {!r}); import bootstrap; bootstrap.prepare = lambda dev: None"
    done = run_as_if(made.format(str(clone / "scripts")), clone / "scripts" / script)
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{clone / 'scripts' / script}\n", "")
