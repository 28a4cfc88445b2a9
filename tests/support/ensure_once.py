"""A module's installer as a program: prints a line at each step, so that a test can end it wherever it likes."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from waifu_llm.catalog import read_manifest
from waifu_llm.config import UvSettings
from waifu_llm.environment.model import Completed
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.paths import Home
from waifu_llm.supervision.process import Processes

_CLIENTS: Final = 8


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _main(home: Path, worker: Path) -> None:
    async with Processes() as processes:

        async def run(
            argv: Sequence[str],
            *,
            env: Mapping[str, str],
            on_line: Callable[[str], None] | None = None,
            silence_s: float | None = None,
            on_terminal: bool = False,
            until_line: bool = False,
            nice: int = 0,
        ) -> Completed:
            _say("run " + " ".join(argv[:3]))

            def heard(line: str) -> None:
                _say(f"line {line}")
                if on_line is not None:
                    on_line(line)

            done = await processes.run(
                argv,
                env=env,
                on_line=heard,
                silence_s=silence_s,
                on_terminal=on_terminal,
                until_line=until_line,
                nice=nice,
            )
            _say("ended")
            return done

        store = EnvironmentStore(Home(home), UvSettings(), run, os.environ, 60.0)
        manifest = read_manifest(worker)
        clients = (store.ensure(manifest, lambda step: _say(f"step {step.detail}")) for _ in range(_CLIENTS))
        for environment in await asyncio.gather(*clients):
            _say(f"ready {environment.folder}")
        await store.close()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), Path(sys.argv[2])))
