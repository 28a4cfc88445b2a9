"""Runs tests that listen to Python's audit events, in a Python of their own: a hook stays until its process ends.

Beside a hook that is written in Python no thread can start safely under a tracer such as coverage's: the interpreter
lets another thread run in the midst of installing a trace function, and refuses that thread's own (CPython 3.11,
`_PyEval_SetTrace`). So these are run without one, and no other test has a hook.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from support.environments import ROOT

_TRACED: Final = ("COVERAGE_", "PYTEST_")


def run_audited(folder: Path, *paths: str) -> None:
    """All tests that are marked `audited` in these files; each must pass, none may be skipped. `folder`: theirs."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_TRACED)}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    argv += ["-m", "audited", f"--basetemp={folder / 'audited'}", *paths]
    ran = subprocess.run(argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    said = ran.stdout.splitlines()
    assert ran.returncode == 0 and " passed" in said[-1] and " skipped" not in said[-1], ran.stdout + ran.stderr
