"""Installs as clients of a real module see them, with uv held at a barrier: FAULTS E2, E11, E13, C12."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.environments import SharedEnvironments
from support.peer import Peer, connected
from support.running_module import RunningModule, running_module
from support.waiting import bounded, until

from waifu_llm.environment import uv

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the barrier is made of named pipes")

_SCRIPT = """\
#!/bin/sh
echo "$*" >> {calls}
case "$*" in *" sync "*) echo here > {reached}; read line < {go};; esac
exec {uv} "$@"
"""


class HeldUv:
    """A uv that waits before it installs. `program` is what is run in place of uv."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "held-uv"
        self._calls = folder / "calls"
        pipes = folder / "reached", folder / "go"
        for pipe in pipes:
            os.mkfifo(pipe)
        # Open for both directions: neither side waits for the other to open it.
        self._reached, self._go = (os.open(pipe, os.O_RDWR | os.O_NONBLOCK) for pipe in pipes)
        text = _SCRIPT.format(calls=self._calls, reached=pipes[0], go=pipes[1], uv=uv.find_uv())
        self.program.write_text(text)
        self.program.chmod(0o700)

    async def reached(self) -> None:
        """It is about to install."""
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(self._reached, event.set)
        try:
            async with bounded():
                await event.wait()
        finally:
            loop.remove_reader(self._reached)

    def let_go(self) -> None:
        os.write(self._go, b"go\n")

    def installs(self) -> int:
        """How many there were."""
        return self._calls.read_text().count(" sync ")

    def running(self) -> list[int]:
        """The pids of those that run now."""
        found = psutil.process_iter(["cmdline"])
        return [process.pid for process in found if str(self.program) in (process.info["cmdline"] or ())]

    def close(self) -> None:
        os.close(self._reached)
        os.close(self._go)


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_environments: SharedEnvironments) -> Iterator[HeldUv]:
    shared_environments.build("echo")  # what it needs is in uv's cache now
    held = HeldUv(tmp_path)
    monkeypatch.setattr(uv, "find_uv", lambda: str(held.program))
    yield held
    held.close()


async def end_of_load(peer: Peer) -> Any:
    """How the load that runs ends, as its error."""
    while (reply := await peer.hear())["type"] != "load_done":
        pass
    return reply["error"]


async def asked(peer: Peer) -> None:
    """A load has begun."""
    await peer.say("load", "load", provider="echo")
    await peer.hear_types("load_ack")


def leftovers(home: Path) -> list[Path]:
    return list((home / "envs").iterdir())


async def test_e2_two_clients_that_load_one_provider_wait_for_one_install(held: HeldUv, home: Path) -> None:
    async with running_module(home) as module, connected(module.url) as one, connected(module.url) as other:
        await asked(one)
        await held.reached()
        await asked(other)
        held.let_go()
        assert [await end_of_load(one), await end_of_load(other)] == ["SUCCESS", "SUCCESS"]
    assert held.installs() == 1


@pytest.mark.parametrize("how", ["interrupt", "disconnect"])
async def test_e11_c12_a_client_that_leaves_an_install_leaves_it_running_for_the_next_one(
    how: str, held: HeldUv, home: Path
) -> None:
    async with running_module(home) as module:
        async with connected(module.url) as peer:
            await asked(peer)
            await held.reached()
            if how == "interrupt":
                await peer.say("interrupt", "i", target_request_id="load")
                await peer.hear_types("interrupt_ack")
                assert await end_of_load(peer) == "INTERRUPT"
        assert len(held.running()) == 1
        async with connected(module.url) as later:
            await asked(later)
            held.let_go()
            assert await end_of_load(later) == "SUCCESS"
    assert held.installs() == 1


@pytest.mark.parametrize("how", ["close", "signal"])
async def test_e11_a_stop_ends_uv_and_removes_what_it_began(how: str, held: HeldUv, home: Path) -> None:
    async def stop(module: RunningModule, peer: Peer) -> None:
        if how == "close":
            await peer.say("close", "c")
            assert "close_ack" in [(await peer.hear())["type"] for _ in range(2)]
        else:
            assert await module.stop() == 0

    async with running_module(home) as module:
        async with connected(module.url) as peer:
            await asked(peer)
            await held.reached()
            await stop(module, peer)
        assert await module.ended() == 0
    assert held.running() == []
    assert leftovers(home) == []


async def test_e13_an_environment_that_is_removed_under_a_stream_is_built_again_by_the_next_load(
    installed: Callable[..., None], home: Path
) -> None:
    """The stream goes on, for what it needs is in memory, or dies as a worker does; either way it ends once."""
    installed("echo")
    async with running_module(home) as module, connected(module.url) as peer:
        await peer.load()
        await peer.generate("g", params={"model_id": "echo-slow"})
        assert (await peer.hear())["type"] == "generate_stream_chunk"
        (folder,) = leftovers(home)
        shutil.rmtree(folder)
        while (reply := await peer.hear())["type"] == "generate_stream_chunk":
            pass
        assert reply["type"] == "generate_stream_done"
        async with connected(module.url) as later:
            await asked(later)
            assert await end_of_load(later) == "SUCCESS"
    # A worker of before may serve it: the environment is built where one has to be started.
    async with running_module(home) as module, connected(module.url) as peer:
        await asked(peer)
        assert await end_of_load(peer) == "SUCCESS"
        assert (folder / "waifu-llm-stamp.json").is_file()
        await until(lambda: (folder / "waifu-llm-compiled").exists(), "it is compiled")
