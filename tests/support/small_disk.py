"""A module's installer on a disk of its own, as a program: `python small_disk.py HOME DISK WORKER...`

DISK: "small" (36 MB), "read-only" or "none" (the ordinary one, where no file may grow beyond 8 MB). It installs each
worker in turn and prints, as JSON, how each ended and what was in `envs` then. What it mounts is seen by no other
process and ends with it.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from support.stores import open_store

from waifu_llm.catalog import read_manifest
from waifu_llm.errors import ModuleError
from waifu_llm.supervision.process import Processes

_OPTIONS: Final = {"small": "size=36m,mode=700", "read-only": "ro"}
_LARGEST: Final = 8 * 1024 * 1024


async def _main(home: Path, workers: list[Path]) -> list[dict[str, Any]]:
    ends = []
    async with Processes() as processes:
        store = open_store(home, processes.run, os.environ)
        for worker in workers:
            manifest = read_manifest(worker)
            try:
                await store.ensure(manifest)
                error = None
            except ModuleError as failure:
                error = failure.message
            others = [entry.folder.name.partition("-")[0] for entry in store.installed()]
            state = store.status(manifest).state
            ends.append({"error": error, "envs": others, "hidden": _hidden(home), "state": state})
        await store.close()
    return ends


def _hidden(home: Path) -> list[str]:
    return [entry.name for entry in home.glob("envs/.*")]


def _prepare(home: Path, disk: str) -> None:
    home.mkdir(parents=True, exist_ok=True)
    if disk == "none":
        resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST, _LARGEST))
    else:
        subprocess.run(["mount", "-t", "tmpfs", "-o", _OPTIONS[disk], "none", str(home)], check=True)


if __name__ == "__main__":
    _prepare(Path(sys.argv[1]), sys.argv[2])
    sys.stdout.write(json.dumps(asyncio.run(_main(Path(sys.argv[1]), [Path(name) for name in sys.argv[3:]]))))
