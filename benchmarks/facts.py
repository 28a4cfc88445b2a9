"""What a reader must know of a run: machine, versions, commit."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import psutil
from benchmarks.children import ROOT

# A guest's time is counted as its host's too; stolen time is another machine's.
_NOT_BUSY: Final = frozenset({"idle", "iowait", "guest", "guest_nice", "steal"})
_PACKAGES: Final = ("waifu-llm", "websockets", "msgspec", "aiohttp", "uv", "psutil")


def facts() -> dict[str, Any]:
    """As groups of names and values."""
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_mb": psutil.virtual_memory().total // 1_000_000,
            "load_average": _load(),
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "byte_code": "written, as users have it"
        + (" (this shell's PYTHONDONTWRITEBYTECODE is taken away)" if "PYTHONDONTWRITEBYTECODE" in os.environ else ""),
    }


class Others:
    """What other programs used of the machine while this one and all that it started and ended did."""

    def __init__(self) -> None:
        self._began = time.monotonic(), _busy_s(), _own_s()

    def cores(self) -> float:
        """So many cores, on average since the beginning."""
        began, busy_s, own_s = self._began
        used_s = (_busy_s() - busy_s) - (_own_s() - own_s)
        return round(max(0.0, used_s) / (time.monotonic() - began), 2)


def _busy_s() -> float:
    times = psutil.cpu_times()._asdict()
    return float(sum(seconds for kind, seconds in times.items() if kind not in _NOT_BUSY))


def _own_s() -> float:
    """This process, and its descendants as far as they were waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _load() -> list[float]:
    return [round(value, 2) for value in psutil.getloadavg()]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not there"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def _commit() -> str:
    """The commit, with a mark where what is measured differs from it; "unknown" outside of a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain", "--", "core", "workers") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    argv = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(argv, capture_output=True, check=True, encoding="utf-8").stdout.strip()
