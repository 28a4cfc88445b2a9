"""What both scripts begin with: a `.venv` with the project in it, made from nothing but Python.

Only the standard library may be imported here, and old Pythons must be able to read this file far enough to
say what they are too old for.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
OLDEST = (3, 11)
_STAMP = VENV / "waifu-llm-installed.json"

NO_VENV = """This Python cannot make virtual environments: its module {missing} is missing.
Install it and run this command again:
  Debian, Ubuntu   sudo apt install python{major}.{minor}-venv
  elsewhere        a Python from python.org, the system's package manager or uv has it
"""
ANEW = "waifu-llm was missing in {0} and was installed anew. Run this again; if it says the same, remove {0} first."
TOO_OLD = "waifu-llm needs Python {}.{} or newer; this is {}.{} ({}). Run this command with a newer one.\n"


class SetUpFailed(Exception):
    """The message says what to do."""


def in_venv(name: str) -> Path:
    """A program of the virtual environment."""
    if sys.platform == "win32":
        return VENV / "Scripts" / f"{name}.exe"
    return VENV / "bin" / name


def environment(extra: Mapping[str, str] = {}) -> dict[str, str]:
    """This process's variables without what would point tools at another virtual environment."""
    other = ("VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "UV_PROJECT_ENVIRONMENT")
    return {name: value for name, value in os.environ.items() if name not in other} | dict(extra)


def say(text: str) -> None:
    """One line for the user, at once."""
    print(text, flush=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    say(f"· {what}")
    start = time.monotonic()
    yield
    say(f"  {time.monotonic() - start:.1f} s")


def run(argv: Sequence[str | Path]) -> None:
    """Run one command of the set-up. Raises: SetUpFailed with its last words."""
    done = subprocess.run(
        [str(part) for part in argv],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode != 0:
        command = " ".join(str(part) for part in argv)
        raise SetUpFailed(f"this failed with exit code {done.returncode}:\n  {command}\n{done.stdout[-3000:].rstrip()}")


def missing_module() -> str | None:
    """The name of the standard module that this Python was packaged without, if it cannot make a venv."""
    return next((name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None), None)


def check_python() -> None:
    """Raises: SetUpFailed where this Python is too old or was packaged without venv."""
    found = sys.version_info[:2]
    if found < OLDEST:
        raise SetUpFailed(TOO_OLD.format(*OLDEST, *found, sys.executable))
    missing = missing_module()
    if missing is not None and not _venv_works():
        raise SetUpFailed(NO_VENV.format(missing=missing, major=found[0], minor=found[1]))


def _venv_works() -> bool:
    """The environment's Python runs and is new enough; false also where it points at one that is gone."""
    return _venv_agrees("import sys, pip; sys.exit(sys.version_info[:2] < (3, 11))")


def _has_project() -> bool:
    """Whether the project is still in it, whatever the stamp says: pip may have taken it out."""
    return _venv_agrees("import sys; from importlib.util import find_spec; sys.exit(find_spec('waifu_llm') is None)")


def _venv_agrees(probe: str) -> bool:
    try:
        done = subprocess.run([in_venv("python"), "-I", "-c", probe], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _wanted(packages: Sequence[str]) -> dict[str, object]:
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return {"project": digest, "root": str(ROOT), "packages": sorted(packages)}


def _installed() -> dict[str, object]:
    try:
        stamp = json.loads(_STAMP.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _is_enough(installed: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
    """A venv with the test tools in it serves the demo too."""
    have, need = installed.get("packages"), wanted["packages"]
    if not isinstance(have, list) or not isinstance(need, list):
        return False
    return set(need) <= set(have) and all(installed.get(name) == wanted[name] for name in ("project", "root"))


def dev_packages() -> list[str]:
    """The requirements of the group `dev`."""
    import tomllib  # not at the top: an old Python must come as far as the sentence about its age

    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    return [str(requirement) for requirement in groups["dev"]]


def prepare(*, dev: bool) -> None:
    """`.venv` with the project (editable), and the test tools where `dev`; quick where it is there already.

    Raises: SetUpFailed.
    """
    check_python()
    works = _venv_works()
    wanted = _wanted(dev_packages() if dev else [])
    if works and _is_enough(_installed(), wanted) and _has_project():
        return
    if not works:
        with timed(f"making {VENV.name} with Python {sys.version_info[0]}.{sys.version_info[1]}"):
            run([sys.executable, "-m", "venv", "--clear", VENV])
    _STAMP.unlink(missing_ok=True)
    python = in_venv("python")
    if not in_venv("uv").exists():
        with timed("installing uv"):
            run([python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "uv>=0.11.15"])
    with timed("installing waifu-llm" + (" and the test tools" if dev else "")):
        packages = wanted["packages"]
        assert isinstance(packages, list)
        run([in_venv("uv"), "pip", "install", "--python", python, "--editable", ROOT, *packages])
    _STAMP.write_text(json.dumps(wanted), "utf-8")


def go_on_with_project() -> None:
    """Return where this Python has the project. Else the script runs once more, with `.venv`'s, and this run ends.

    Where it is `.venv`'s already, nothing is started: whoever starts what it is itself might do so for ever.
    """
    if importlib.util.find_spec("waifu_llm") is not None:
        return
    try:
        prepare(dev=False)
    except SetUpFailed as error:
        sys.exit(str(error))
    if Path(sys.prefix).resolve() == VENV.resolve():
        sys.exit(ANEW.format(VENV))
    sys.exit(subprocess.run([in_venv("python"), *sys.argv], env=environment(), check=False).returncode)


def run_of_tests(module: str, arguments: Sequence[str]) -> int:
    """Run a program that lies beside the tests, with the test tools; its exit code."""
    return run_program(module, arguments, ROOT / "tests")


def run_program(module: str, arguments: Sequence[str], root: Path) -> int:
    """Run a program that is imported from the folder `root`, with the test tools; its exit code."""
    try:
        prepare(dev=True)
    except SetUpFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    argv = [str(in_venv("python")), "-m", module, *arguments]
    return subprocess.run(argv, env=environment({"PYTHONPATH": str(root)}), check=False).returncode
