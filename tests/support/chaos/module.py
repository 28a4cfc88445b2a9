"""The module of a chaos run as a process: started, watched from outside, asked for a census, ended."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from support.waiting import FACTOR

from waifu_llm.paths import Home

_PROGRAM: Final = Path(__file__).with_name("program.py")
_TESTS: Final = Path(__file__).resolve().parents[2]
_SEES_TESTS: Final = {"PYTHONPATH": os.pathsep.join(filter(None, (str(_TESTS), os.environ.get("PYTHONPATH"))))}
_START_S: Final = 30.0 * FACTOR
_SETTLE_S: Final = 30.0 * FACTOR
_LOOK_AGAIN_S: Final = 0.1
_SAME: Final = 5
_CONFIG: Final = """\
[limits]
stall_s = 3
pending_bytes = 1000000
[workers]
idle_s = 5
"""


@dataclass(frozen=True)
class Census:
    """What a module has at one moment; `memory_mb` is its own, resident."""

    fds: int
    tasks: int
    threads: int
    children: int
    memory_mb: float

    def beyond(self, before: "Census") -> dict[str, int]:
        """What there is more of than before, memory apart."""
        then = asdict(before)
        return {name: value - then[name] for name, value in asdict(self).items() if name != "memory_mb"}


class ChaosModule:
    """One running module."""

    def __init__(self, process: asyncio.subprocess.Process, home: Home) -> None:
        self.home = home
        self.url = ""
        self.process = process
        self.pid = process.pid
        self.seen: dict[psutil.Process, str] = {}
        self._listens = asyncio.Event()
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def start(cls, root: Path, env: dict[str, str] | None = None, config: str = _CONFIG) -> "ChaosModule":
        """Start one in a home that lies at `root`, and wait until it listens."""
        home = Home(root)
        os.makedirs(root, 0o700, exist_ok=True)  # noqa: PTH103 - a moment, before anything runs
        home.config_file.write_text(config, "utf-8")
        with (root / "stderr").open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(_PROGRAM),
                *("--port", "0"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "WAIFU_LLM_HOME": str(root), **_SEES_TESTS, **(env or {})},
            )
        module = cls(process, home)
        async with asyncio.timeout(_START_S):
            await module._listens.wait()
        assert module.url, f"it did not start: {(root / 'stderr').read_text('utf-8')[-2000:]}"
        return module

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said = line.decode()
            if said.startswith("census "):
                self._answers.put_nowait(json.loads(said.removeprefix("census ")))
            elif (match := re.search(r"ws://\S+", said)) is not None:
                self.url = match[0]
                self._listens.set()
        self._listens.set()

    async def inside(self, word: str = "census") -> dict[str, Any]:
        """What only its loop knows: `tasks`, and by how many ms it was `late_ms`; `word` may ask for more, see there.

        Raises: TimeoutError, ConnectionError.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        async with asyncio.timeout(_START_S):
            return await self._answers.get()

    async def census(self) -> Census:
        """Count. Raises: psutil.Error once it has ended."""
        tasks = (await self.inside("trim"))["tasks"]
        core = psutil.Process(self.pid)
        return Census(
            core.num_fds(), tasks, core.num_threads(), len(self.descendants()), core.memory_info().rss / 2**20
        )

    async def settled(self, goal: Census | None = None) -> Census:
        """The census once it is at the goal, or without one the same several times; the last one when it never is."""
        end, same, last = time.monotonic() + _SETTLE_S, 0, await self.census()
        while time.monotonic() < end:
            await asyncio.sleep(_LOOK_AGAIN_S)
            now = await self.census()
            same = same + 1 if not any(now.beyond(last).values()) else 0
            last = now
            if same >= _SAME and (goal is None or max(now.beyond(goal).values()) <= 0):
                break
        return last

    def descendants(self) -> list[psutil.Process]:
        """All that live under it now; whoever was seen once is remembered in `seen`, with its command."""
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.pid).children(recursive=True)
            for child in found:
                if child not in self.seen:
                    with contextlib.suppress(psutil.Error):
                        self.seen[child] = " ".join(child.cmdline())
            return found
        return []

    def workers(self) -> list[psutil.Process]:
        """The workers among them."""
        return [child for child in self.descendants() if f"{self.home.seed}/" in self.seen.get(child, "")]

    def installers(self) -> list[psutil.Process]:
        """The uvs among them."""
        return [child for child in self.descendants() if re.search(r"(^|/)uv (pip|venv)", self.seen.get(child, ""))]

    def survivors(self) -> list[psutil.Process]:
        """Whoever of those seen still lives."""
        return [child for child in self.seen if lives(child)]

    async def ended(self, within_s: float) -> int:
        """Its exit code. Raises: TimeoutError."""
        async with asyncio.timeout(within_s):
            code = await self.process.wait()
            await self._reading
        return code

    async def kill(self) -> None:
        """SIGKILL, and wait."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        await self._reading


def lives(process: psutil.Process) -> bool:
    """It is there and no zombie; another process with its pid is not it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
