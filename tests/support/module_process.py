"""A module with the tests' catalog as a process of its own, which a test may kill.

Run as a program it is that module: `python module_process.py HOME GATEWAYS`, the gateways' tables as JSON; it says on
its standard output where it and its gateways listen: a name, a blank, an address.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.environments import catalog

from waifu_llm import log
from waifu_llm.config import ServerSettings, Settings
from waifu_llm.module import Announce, run_module
from waifu_llm.paths import Home
from waifu_llm.redaction import Redactor


class ModuleProcess:
    """One such process; reading blocks, the test's own time limit bounds it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def address(self, name: str) -> str:
        """Where the next one of that name listens; the module's is `module`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            heard, _, address = line.strip().partition(" ")
            if heard == name:
                return address
        raise AssertionError(f"{name} never listened")


@contextmanager
def module_process(home: Path, gateways: dict[str, dict[str, object]]) -> Iterator[ModuleProcess]:
    """Start it; killed at the end where it still runs."""
    argv = [sys.executable, __file__, str(home), json.dumps(gateways)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env) as process:
        try:
            yield ModuleProcess(process)
        finally:
            process.kill()


def _say(name: str, address: str) -> None:
    sys.stdout.write(f"{name} {address}\n")
    sys.stdout.flush()


def _main(home: Home, gateways: dict[str, dict[str, object]]) -> int:
    redactor = Redactor()
    log.set_up(home.logs, "debug", redactor)
    return asyncio.run(
        run_module(
            Settings(server=ServerSettings(port=0), gateway=gateways),
            home,
            os.environ,
            redactor=redactor,
            catalog=catalog(),
            announce=Announce(lambda url: _say("module", url), _say),
        )
    )


if __name__ == "__main__":
    sys.exit(_main(Home(Path(sys.argv[1])), json.loads(sys.argv[2])))
