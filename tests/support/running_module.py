"""The real module: in this process with the tests' workers, or as the process that a user starts."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from support.environments import catalog
from support.waiting import WAIT_S, bounded

from waifu_llm.config import LimitSettings, LogSettings, ServerSettings, Settings, WorkerSettings
from waifu_llm.module import run_module
from waifu_llm.paths import Home
from waifu_llm.supervision.guardian import VARIABLE


@asynccontextmanager
async def running_module(
    home: Path,
    *,
    server: ServerSettings | None = None,
    limits: LimitSettings | None = None,
    workers: WorkerSettings | None = None,
    provider: dict[str, dict[str, object]] | None = None,
) -> AsyncIterator[str]:
    """A module with the tests' catalog; gives its URL, and checks at the end that it leaves nothing behind."""
    settings = Settings(
        server=server or ServerSettings(port=0),
        limits=limits or LimitSettings(),
        workers=workers or WorkerSettings(),
        log=LogSettings(),
        provider=provider or {},
    )
    stop = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(
        run_module(settings, Home(home), os.environ, catalog=catalog(), on_listening=listening.set_result, stop=stop)
    )
    try:
        async with bounded():
            either: set[asyncio.Future[int] | asyncio.Future[str]] = {running, listening}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        yield listening.result()
    finally:
        stop.set()
        async with bounded():
            assert await running == 0
    assert marked_children() == []


def marked_children(pid: int | None = None) -> list[psutil.Process]:
    """All descendants of a module that carry a run's marker: workers and what they started, and uv."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if VARIABLE in child.environ() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.Error:
            continue
    return found


@dataclass
class Served:
    """`waifu-llm serve` as a process."""

    process: subprocess.Popen[str]
    url: str

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(WAIT_S)


@contextmanager
def served(*flags: str, env: dict[str, str] | None = None) -> Iterator[Served]:
    """Start it on a free port and wait until it listens; killed at the end where it still runs."""
    argv = [sys.executable, "-m", "waifu_llm.cli", "serve", "--port", "0", *flags]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        match = re.search(r"wss?://\S+", line)
        assert match is not None, f"{line}{process.stderr.read()}"
        yield Served(process, match[0])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
