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
from support import canary
from support.environments import catalog
from support.waiting import WAIT_S, bounded

from waifu_llm import log
from waifu_llm.config import LogSettings, ServerSettings, Settings, WorkerSettings
from waifu_llm.module import Announce, run_module
from waifu_llm.paths import Home
from waifu_llm.supervision.guardian import VARIABLE


class RunningModule:
    """Where it listens, and how to end it."""

    def __init__(self, home: Path, settings: Settings) -> None:
        self.url = ""
        self._addresses: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._stop = asyncio.Event()
        self._listening = asyncio.Event()
        self._running = asyncio.create_task(
            run_module(
                settings,
                Home(home),
                os.environ,
                catalog=catalog(),
                announce=Announce(self._listens, lambda *heard: self._addresses.put_nowait(heard)),
                stop=self._stop,
            )
        )

    def _listens(self, url: str) -> None:
        self.url = url
        self._listening.set()

    async def listening(self) -> None:
        """Clients can connect. Raises: what kept it from listening."""
        event = asyncio.ensure_future(self._listening.wait())
        async with bounded():
            await asyncio.wait([event, self._running], return_when=asyncio.FIRST_COMPLETED)
        event.cancel()
        if not self._listening.is_set():
            self._running.result()

    async def gateway_address(self, name: str) -> str:
        """Where the gateway listens, once it does; asked again, where it listens after it was started again."""
        async with bounded():
            while True:
                heard, address = await self._addresses.get()
                if heard == name:
                    return address

    async def stop(self) -> int:
        """Drain it; its exit code. Safe to repeat."""
        self._stop.set()
        return await self.ended()

    async def ended(self) -> int:
        """It has ended by itself."""
        async with bounded():
            return await self._running


@asynccontextmanager
async def running_module(
    home: Path,
    *,
    workers: WorkerSettings | None = None,
    gateways: dict[str, dict[str, object]] | None = None,
    providers: dict[str, dict[str, object]] | None = None,
    server: ServerSettings | None = None,
    token: str | None = None,
    logs: LogSettings | None = None,
) -> AsyncIterator[RunningModule]:
    """A module with the tests' catalog, which must leave nothing behind; it may end before the block does.

    `gateways`: their tables, such as `{"lollms": {"enabled": True, "port": 0}}`; `providers`: the defaults of their
    options; `server` with port 0.
    """
    settings = Settings(
        server=server or ServerSettings(port=0),
        workers=workers or WorkerSettings(),
        gateway=gateways or {},
        provider=providers or {},
        token=token,
        log=logs or LogSettings(),
    )
    canary.plant(home)
    module = RunningModule(home, settings)
    await module.listening()
    try:
        yield module
    finally:
        canary.look_at_processes()
        assert await module.stop() == 0
        assert await asyncio.to_thread(log.flush, WAIT_S)
        canary.look_at_rest(home)
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
    environ = {**os.environ, **(env or {})}
    canary.plant(Path(environ["WAIFU_LLM_HOME"]))
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        match = re.search(r"wss?://\S+", line)
        assert match is not None, f"{line}{process.stderr.read()}"
        yield Served(process, match[0])
    finally:
        if process.poll() is None:
            canary.look_at_processes(process.pid)
        process.kill()
        process.wait()
        canary.look_at_rest(Path(environ["WAIFU_LLM_HOME"]), stdout=process.stdout.read(), stderr=process.stderr.read())
        process.stdout.close()
        process.stderr.close()
