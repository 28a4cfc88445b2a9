"""How a real module ends, in every stage of its work and in every way, and what is left of it: R9 to R12, P3, P23."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from support.module_process import ModuleProcess, module_process
from support.peer import Peer, connected
from support.puppet import Puppet, Strand, puppet
from support.running_module import running_module
from support.waiting import WAIT_S, bounded, wait_gone

from waifu_llm import module
from waifu_llm.supervision import process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as they are here are POSIX")

STAGES: Final = ("idle", "installing", "starting", "loading", "streaming")
CODES: Final = {"close": 0, "SIGTERM": 0, "SIGHUP": 0, "SIGINT": 130}
# Every stage is ended by a client and by the system; the other signals take the same path.
PAIRS: Final = [(stage, way) for stage in STAGES for way in ("close", "SIGTERM")] + [
    ("installing", "SIGINT"),
    ("streaming", "SIGINT"),
    ("starting", "SIGHUP"),
]


@contextlib.contextmanager
def hangup(disposition: signal.Handlers) -> Iterator[None]:
    """What is started in here is told of the end of its terminal, or has that ignored as under `nohup`."""
    before = signal.signal(signal.SIGHUP, disposition)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@dataclass
class Bed:
    """A module as a process of its own, a client, and the strings of its workers."""

    module: ModuleProcess
    url: str
    peer: Peer
    hand: Puppet
    home: Path

    async def reach(self, stage: str) -> str | None:
        """Have the module in that stage; the type of the message that ends what the client waits for."""
        match stage:
            case "idle":
                return None
            case "installing":
                await self.peer.say("load", "r", provider="echo", progress=True)
                while (await self.peer.hear()).get("stage") != "environment":
                    pass
                return "load_done"
            case "starting":
                await self.peer.say("load", "r", provider="fake")
                await self.peer.hear_types("load_ack")
                await self.hand.strand()
                return "load_done"
            case "loading":
                await self.started()
                await self.peer.say("load", "r", provider="fake", puppet=self.hand.address, on_load="puppet")
                await self.peer.hear_types("load_ack")
                await self.hand.strand()
                return "load_done"
            case _:
                await self.stream()
                return "generate_stream_done"

    async def started(self) -> None:
        """The worker may start; the test has its hand on what comes after that."""
        await self.peer.say("load", "warm", provider="fake", puppet=self.hand.address)
        (await self.hand.strand()).go()
        (_, done) = await self.peer.hear_types("load_ack", "load_done")
        assert done["error"] == "SUCCESS"

    async def stream(self) -> Strand:
        await self.started()
        await self.peer.generate("r", params={"model_id": "puppet"})
        strand = await self.hand.strand()
        await strand.chunk("one")
        await self.peer.hear_types("generate_stream_chunk")
        return strand

    async def end(self, way: str) -> None:
        """Have it end, in that way."""
        if way == "close":
            async with connected(self.url) as other:
                await other.say("close", "c")
                await other.hear_types("close_ack")
                assert await other.closed() == 1001
        else:
            self.module.process.send_signal(getattr(signal, way))

    async def code(self) -> int:
        async with bounded():
            return await asyncio.to_thread(self.module.process.wait, WAIT_S)


@contextlib.asynccontextmanager
async def bed(home: Path) -> AsyncIterator[Bed]:
    async with puppet() as hand:
        with pytest.MonkeyPatch.context() as patch, hangup(signal.SIG_DFL):
            patch.setenv("WAIFU_FAKE_START", f"puppet={hand.address}")
            start = module_process(home, {})
            process = start.__enter__()
        try:
            url = await asyncio.to_thread(process.address, "module")
            async with connected(url) as peer:
                yield Bed(process, url, peer, hand, home)
        finally:
            start.__exit__(None, None, None)


def family(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def folders(home: Path) -> list[str]:
    """What is in the place of environments, other than the one that lay there before."""
    return [folder.name for folder in (home / "envs").iterdir() if not folder.name.startswith("fake-")]


async def hear_the_end(peer: Peer, wanted: str) -> dict[str, Any]:
    """The terminal message, behind what is still said of how far a load is."""
    while (reply := await peer.hear())["type"] == "load_progress":
        pass
    assert reply["type"] == wanted
    return reply


@pytest.mark.parametrize(("stage", "way"), PAIRS)
async def test_r9_r11_p23_a_stop_in_any_stage_tells_whoever_waits_and_leaves_nothing(
    installed: Callable[..., None], home: Path, stage: str, way: str
) -> None:
    installed("fake")
    async with bed(home) as it:
        wanted = await it.reach(stage)
        pids = family(it.module.process.pid)
        ending = asyncio.ensure_future(it.end(way))
        if wanted is not None:
            done = await hear_the_end(it.peer, wanted)
            assert (done["unique_request_id"], done["error"], done["reason"]) == ("r", "INTERRUPT", "closing")
        assert await it.peer.closed() == 1001
        async with bounded():
            await ending
        assert await it.code() == CODES[way]
    wait_gone(pids)
    assert folders(home) == []
    assert list((home / "run").iterdir()) == []


async def test_r9_a_close_ends_streams_and_an_install_at_once(installed: Callable[..., None], home: Path) -> None:
    installed("fake")
    async with bed(home) as it, connected(it.url) as other:
        strand = await it.stream()
        installing = Bed(it.module, it.url, other, it.hand, home)
        await installing.reach("installing")
        pids = family(it.module.process.pid)
        await it.end("close")
        assert (await hear_the_end(it.peer, "generate_stream_done"))["reason"] == "closing"
        assert (await hear_the_end(other, "load_done"))["reason"] == "closing"
        assert await it.code() == 0
        await strand.closed()
    wait_gone(pids)
    assert folders(home) == []


@pytest.mark.parametrize("stage", STAGES)
async def test_r10_p3_nothing_of_a_killed_module_lives_on_and_the_next_one_needs_no_help(
    installed: Callable[..., None], home: Path, stage: str
) -> None:
    installed("fake")
    async with bed(home) as it:
        await it.reach(stage)
        pids = family(it.module.process.pid)
        it.module.process.kill()
        await it.code()
        await asyncio.to_thread(wait_gone, pids)
    whole = [name for name in folders(home) if not name.startswith(".")]
    assert whole == []
    async with bed(home) as it:
        await it.peer.load("echo", "again")
        await it.end("SIGTERM")
        assert await it.code() == 0
    assert [name.rpartition("-")[0] for name in folders(home)] == ["echo"]


async def test_r11_a_module_whose_terminal_is_ignored_outlives_it(installed: Callable[..., None], home: Path) -> None:
    """As under `nohup`."""
    with hangup(signal.SIG_IGN), module_process(home, {}) as running:
        url = await asyncio.to_thread(running.address, "module")
        running.process.send_signal(signal.SIGHUP)
        for _ in range(2):
            async with connected(url) as peer:
                await peer.say("get_stats", "s")
                await peer.hear_types("get_stats_done")
        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.process.wait, WAIT_S) == 0


# What will not stop.


async def test_r9_what_does_not_stop_in_time_is_killed(
    installed: Callable[..., None], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ladder would give this worker an hour for every step."""
    installed("fake")
    monkeypatch.setattr(process, "STEP_S", 3600.0)
    monkeypatch.setattr(module, "STOP_S", 0.1)
    async with puppet() as hand:
        monkeypatch.setenv("WAIFU_FAKE_START", f"ignore-eof,ignore-term,puppet={hand.address}")
        async with running_module(home) as running, connected(running.url) as peer:
            await peer.say("load", "r", provider="fake", progress=True)
            strand = await hand.strand()
            strand.go()
            while (await peer.hear()).get("stage") != "provider":
                pass
            assert await running.stop() == 0
            await strand.closed()
    wait_gone([strand.pid])


_STUCK: Final = """
import asyncio, sys, threading
from pathlib import Path
from waifu_llm import module
from waifu_llm.config import ServerSettings, Settings
from waifu_llm.paths import Home

module.LAST_RESORT_S = 0.1
async def never(server):
    print("stopping", flush=True)
    threading.Event().wait()
module.Server.drain = never
settings, home = Settings(server=ServerSettings(port=0)), Home(Path(sys.argv[1]))
with module.LastResort() as last:
    announce = module.Announce(lambda url: print(url, flush=True), stopping=last.arm)
    asyncio.run(module.run_module(settings, home, {}, announce=announce))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_r9_a_stop_that_hangs_is_ended_by_its_last_resort(home: Path, number: signal.Signals, code: int) -> None:
    with subprocess.Popen([sys.executable, "-c", _STUCK, str(home)], stdout=subprocess.PIPE, text=True) as stuck:
        try:
            assert stuck.stdout is not None
            assert stuck.stdout.readline().startswith("ws://")
            stuck.send_signal(number)
            assert stuck.stdout.readline() == "stopping\n"
            assert stuck.wait(WAIT_S) == code
        finally:
            stuck.kill()


def test_r9_a_last_resort_ends_nobody_once_the_stop_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAST_RESORT_S", 3600.0)
    with module.LastResort() as last:
        last.arm(0)
        (timer,) = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    timer.join(WAIT_S)
    assert not timer.is_alive()


def test_p23_the_time_of_a_stop_is_within_ten_seconds() -> None:
    assert module.STOP_S < module.LAST_RESORT_S < 10


def test_s7_the_module_and_what_it_starts_write_no_core_dumps(home: Path) -> None:
    with module_process(home, {}) as running:
        running.address("module")
        for pid in (running.process.pid, *family(running.process.pid)):
            (line,) = [it for it in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core file" in it]
            assert line.split()[4:6] == ["0", "0"]


def test_s7_no_command_writes_core_dumps() -> None:
    what = "import resource; from waifu_llm.cli import main; main(['version']); print(resource.getrlimit(4))"
    done = subprocess.run([sys.executable, "-c", what], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n(0, 0)\n")
