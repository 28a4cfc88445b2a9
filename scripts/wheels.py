"""Which build of torch the tests take: that of a folder of wheels where one is named, else the one without a GPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

_CHOICES = ("UV_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_TORCH_BACKEND")


def torch_choice(environ: Mapping[str, str], pip_folder: str | None) -> dict[str, str]:
    """The variables that uv needs for it, in addition. `pip_folder`: what pip's own configuration names."""
    if environ.get("UV_FIND_LINKS"):
        return {}
    folders = (environ.get("PIP_FIND_LINKS") or pip_folder or "").split()
    if folders:
        return {"UV_FIND_LINKS": ",".join(folders)}
    return {} if any(environ.get(name) for name in _CHOICES) else {"UV_TORCH_BACKEND": "cpu"}


def pip_folder() -> str | None:
    """The `find-links` of pip's configuration, which uv does not read; None where there is none."""
    argv = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None
