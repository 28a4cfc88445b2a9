"""Commands that make what they need say what to do where they cannot work, instead of failing with a traceback."""

import ast
import shutil
import subprocess
import sys
import venv
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

WITH_FIRST_LINES = pytest.mark.skipif(sys.platform == "win32", reason="a script with a first line is no program there")


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


# Says how often it was begun, and gives up where that is too often.
NEEDS_PROJECT = """
import pathlib, sys
begun = pathlib.Path(__file__).with_name("begun")
begun.write_text("x" + (begun.read_text() if begun.exists() else ""))
if len(begun.read_text()) > 3:
    sys.exit("it starts itself again and again")
import bootstrap
bootstrap.go_on_with_project()
print("it has the project")
"""
# Takes the place of uv: notes that it was called, and installs.
UV = '#!/bin/sh\necho called >> "{calls}"\n{install}\n'


@pytest.fixture
def environment(clone: Path) -> Path:
    """Its virtual environment, whose pip and uv are none; the stamp says that the project is in it, which it is not."""
    made = clone / ".venv"
    venv.create(made, symlinks=True)
    packages = next(made.glob("lib/python*/site-packages"))
    (packages / "pip.py").touch()
    uv = made / "bin" / "uv"
    uv.write_text(UV.format(calls=clone / "calls", install=f"touch '{packages / 'waifu_llm.py'}'"))
    uv.chmod(0o755)
    prepared = [str(made / "bin" / "python"), "-c", "import bootstrap; bootstrap.prepare(dev=False)"]
    subprocess.run(prepared, cwd=clone / "scripts", timeout=WAIT_S, check=True, capture_output=True)
    (packages / "waifu_llm.py").unlink()
    (clone / "scripts" / "needs_project.py").write_text(NEEDS_PROJECT)
    return made


@WITH_FIRST_LINES
def test_a_project_that_was_taken_out_of_the_environment_is_installed_again(clone: Path, environment: Path) -> None:
    """A stamp that said otherwise was believed, and each run of the script began another one, for ever."""
    beside = f"sys.path.insert(0, {str(clone / 'scripts')!r})"
    done = run_as_if(beside, clone / "scripts" / "needs_project.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "it has the project"
    assert (clone / "calls").read_text() == "called\n" * 2
    assert (clone / "scripts" / "begun").read_text() == "xx"


@WITH_FIRST_LINES
@pytest.mark.parametrize("install", [True, False])
def test_the_environment_s_own_python_never_starts_itself_again(clone: Path, environment: Path, install: bool) -> None:
    if not install:
        (environment / "bin" / "uv").write_text(UV.format(calls=clone / "calls", install=""))
    argv = [str(environment / "bin" / "python"), str(clone / "scripts" / "needs_project.py")]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=WAIT_S, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"waifu-llm was missing in {environment} and was installed anew. Run this again;")
    assert (clone / "scripts" / "begun").read_text() == "x"
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=WAIT_S, check=False)
    assert (done.returncode, done.stdout) == (0, "it has the project\n") if install else (1, done.stdout)


@WITH_FIRST_LINES
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
