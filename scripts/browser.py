"""The browser that the tests of the playground drive: the system's own, installed where that can be done unasked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bootstrap import environment, say, timed

NAMES = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
INSTALL_S = 900
_RELEASE = Path("/etc/os-release")
_WITHOUT = "the tests of the playground are left out, and counted as skipped"

Run = Callable[[Sequence[str]], "str | None"]


def find_browser() -> str | None:
    """The program, or None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name)) is not None), None)


def prepare_browser(
    run: Run | None = None, find: Callable[[], str | None] = find_browser, release: Path = _RELEASE
) -> str | None:
    """Debian's chromium where this is Debian, we are root, and no browser is there. A sentence where none is."""
    if find() is not None:
        return None
    if not _may_install(release):
        return f"there is no browser ({', '.join(NAMES)}): {_WITHOUT}"
    with timed("installing chromium"):
        run = run or _run
        install = ("apt-get", "install", "--quiet=2", "--yes", "--no-install-recommends", "chromium")
        error = run(("apt-get", "update", "--quiet=2")) or run(install)
    if error is None and find() is not None:
        return None
    return f"chromium could not be installed ({error or 'it is in no folder of PATH'}): {_WITHOUT}"


def _may_install(release: Path) -> bool:
    """Elsewhere the package of this name is another one, or asks for a password."""
    if sys.platform != "linux" or os.geteuid() != 0 or not release.is_file():
        return False
    return "ID=debian" in release.read_text("utf-8").splitlines()


def _run(argv: Sequence[str]) -> str | None:
    """The last words of a command that failed."""
    try:
        done = subprocess.run(
            argv,
            env=environment({"DEBIAN_FRONTEND": "noninteractive"}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            encoding="utf-8",
            errors="replace",
            timeout=INSTALL_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    last = done.stdout.strip().splitlines()[-1:]
    return None if done.returncode == 0 else "".join(last) or f"{argv[0]} ended with {done.returncode}"


def announce_browser() -> None:
    """Prepare it, and say loudly where there is none."""
    if (problem := prepare_browser()) is not None:
        say(f"NO BROWSER: {problem}")
