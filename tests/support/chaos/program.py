"""`waifu-llm serve` as a chaos run has it: the real program, with misbehaving providers and a uv that obeys.

`fake` is the tests' misbehaving worker; `garbler` is another one, for what writes on the wire past its runtime and so
into the lines of others; `victim` is echo under a name of its own, to be installed again and again.
A line on its input is answered by one on its output, `census` and JSON: how many tasks its loop has, and how late the
loop was to say so; `trim` also hands back the memory that the allocator keeps for later, and `jump` puts its wall clock
forward by a month.
uv fails with a full disk while the file `disk-full` lies in the home.
"""

import asyncio
import ctypes
import gc
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import uv
from msgspec.structs import replace
from support.environments import FAKE, ROOT
from support.environments import catalog as with_fakes

from waifu_llm import cli, module
from waifu_llm.catalog import Catalog, read_manifest
from waifu_llm.cli import context

DISK_FULL: Final = "disk-full"
_MONTH_S: Final = 30 * 86_400.0
_UV: Final = """\
#!/bin/sh
case "$*" in *"pip sync"*) if [ -e "{flag}" ]; then cat /dev/zero > /dev/full; exit 2; fi ;; esac
exec "{uv}" "$@"
"""


class _Catalog:
    @staticmethod
    def read() -> Catalog:
        victim = replace(read_manifest(ROOT / "workers" / "echo"), name="victim")
        garbler = replace(read_manifest(FAKE), name="garbler")
        known = with_fakes()
        return Catalog({manifest.name: manifest for manifest in (*known.all(), garbler, victim)}, known.broken)


def _with_a_uv_that_obeys(home: Path) -> None:
    wrapper = home / "uv"
    wrapper.write_text(_UV.format(flag=home / DISK_FULL, uv=uv.find_uv_bin()), "utf-8")
    wrapper.chmod(0o700)
    uv.find_uv_bin = lambda: str(wrapper)


def _answer(loop: asyncio.AbstractEventLoop) -> None:
    """Answer every line of the input, from a thread of its own."""

    def count(asked: float, line: str) -> None:
        late_ms = (time.monotonic() - asked) * 1e3
        if line == "jump\n":
            wall = time.time
            time.time = lambda: wall() + _MONTH_S
        if line == "trim\n" and sys.platform == "linux":
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
        said = json.dumps({"tasks": len(asyncio.all_tasks(loop)), "late_ms": late_ms})
        sys.stdout.write(f"census {said}\n")
        sys.stdout.flush()

    for line in sys.stdin:
        loop.call_soon_threadsafe(count, time.monotonic(), line)


async def _fill_the_executor() -> None:
    """Start all threads that the loop will ever have, so that a census can compare."""
    loop = asyncio.get_running_loop()
    places = min(32, (os.cpu_count() or 1) + 4)
    together = threading.Barrier(places)
    await asyncio.gather(*(loop.run_in_executor(None, together.wait) for _ in range(places)))


def main() -> int:
    """Serve; the arguments are those of `waifu-llm serve`."""
    _with_a_uv_that_obeys(Path(os.environ["WAIFU_LLM_HOME"]))
    run_module = module.run_module

    async def observed(*args: Any, **settings: Any) -> int:
        await _fill_the_executor()
        threading.Thread(target=_answer, args=(asyncio.get_running_loop(),), daemon=True).start()
        return await run_module(*args, **settings)

    context.Catalog = _Catalog  # type: ignore[assignment, attr-defined]
    module.run_module = observed
    return cli.main(["serve", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
