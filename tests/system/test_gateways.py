"""Real gateways of a real module: how they talk to it, how they die, and what is left of them."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.module_process import module_process
from support.puppet import puppet
from support.running_module import RunningModule, marked_children, running_module
from support.waiting import bounded, until, wait_gone

from waifu_client import connect
from waifu_client.protocol import WorkerStats
from waifu_llm.config import ServerSettings, WorkerSettings
from waifu_llm.supervision import life

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as they are here are POSIX")

NAME = "fake_gateway"
CERTIFICATE = str(Path(__file__).parents[1] / "server" / "data" / "localhost.pem")


def tables(**options: object) -> dict[str, dict[str, object]]:
    return {NAME: {"enabled": True, **options}}


class Talk:
    """A connection to the fake gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, do: str, **what: object) -> dict[str, Any]:
        self._writer.write(json.dumps({"do": do, **what}).encode() + b"\n")
        async with bounded():
            said: dict[str, Any] = json.loads(await self._reader.readline())
        return said


@asynccontextmanager
async def talking(address: str) -> AsyncIterator[Talk]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    try:
        yield Talk(reader, writer)
    finally:
        writer.close()


async def row(module: RunningModule) -> WorkerStats:
    """What the module tells of the gateway."""
    async with connect(module.url) as llm, bounded():
        return next(worker for worker in (await llm.stats()).workers if worker.kind == "gateway")


async def test_a_gateway_is_a_client_of_the_module_with_what_its_table_says(
    home: Path, installed: Callable[..., None]
) -> None:
    installed(NAME, "echo")
    async with running_module(home, gateways=tables(port=0), token="of-the-clients") as module:
        async with talking(await module.gateway_address(NAME)) as talk:
            facts = await talk.ask("tell")
            assert facts["url"] == module.url
            assert facts["settings"] == {"port": 0, "does": "serve", "times": None, "token_file": None}
            assert facts["data_dir"] == str(home / "data" / NAME)
            assert await talk.ask("connect") == {"connections": 1}
            assert await talk.ask("generate", text="hello there") == {"text": "hello there"}
        async with connect(module.url, token="of-the-clients") as llm, bounded():
            # Weighing takes a moment, and nobody waits for it.
            while True:
                stats = await llm.stats()
                if all(worker.memory_bytes for worker in stats.workers):
                    break
        (gateway,) = [worker for worker in stats.workers if worker.kind == "gateway"]
        assert (gateway.provider, gateway.pid, gateway.state) == (NAME, facts["pid"], "ready")
        assert {entry.name: entry.state for entry in stats.environments}[NAME] == "ready"


async def test_behind_a_certificate_it_talks_to_the_module_all_the_same(
    home: Path, installed: Callable[..., None]
) -> None:
    installed(NAME, "echo")
    server = ServerSettings(port=0, tls_cert=CERTIFICATE, tls_key=CERTIFICATE)
    async with (
        running_module(home, gateways=tables(), server=server) as module,
        talking(await module.gateway_address(NAME)) as talk,
    ):
        assert module.url.startswith("wss://")
        assert (await talk.ask("tell"))["url"].startswith("ws://127.0.0.1:")
        await talk.ask("connect")
        assert await talk.ask("generate", text="hello there") == {"text": "hello there"}


async def test_one_that_is_not_installed_is_built_while_the_module_serves(
    home: Path, installed: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    installed("echo")
    caplog.set_level(logging.INFO)
    async with running_module(home, gateways=tables()) as module:
        async with connect(module.url) as llm, bounded():
            await llm.load("echo")
            assert (await llm.generate("meanwhile", model_id="echo")).text == "meanwhile"
        async with talking(await module.gateway_address(NAME)) as talk:
            await talk.ask("tell")
    assert f"the gateway {NAME} is being installed" in caplog.text


async def test_one_that_is_killed_comes_back_while_a_clients_stream_runs_on(
    home: Path, installed: Callable[..., None]
) -> None:
    installed(NAME, "fake")
    async with (
        running_module(home, gateways=tables()) as module,
        puppet() as hand,
        connect(module.url) as llm,
        bounded(),
    ):
        await module.gateway_address(NAME)
        await llm.load("fake", puppet=hand.address)
        stream = llm.stream("x", model_id="puppet")
        pieces = aiter(stream)
        first = asyncio.ensure_future(anext(pieces))
        strand = await hand.strand()
        await strand.chunk("before ")
        assert await first == "before "
        gateway = await row(module)
        assert gateway.pid is not None
        os.kill(gateway.pid, signal.SIGKILL)
        async with talking(await module.gateway_address(NAME)) as talk:
            assert (await talk.ask("tell"))["pid"] != gateway.pid
        assert (await row(module)).restarts == 1
        await strand.chunk("after")
        assert await anext(pieces) == "after"
        await strand.finish()
        assert [piece async for piece in pieces] == []


async def second_life(module: RunningModule) -> WorkerStats:
    """The gateway, once it has been started again and is ready; its first life may have been too short to be told."""
    while True:
        await module.gateway_address(NAME)
        gateway = await row(module)
        if (gateway.state, gateway.restarts) == ("ready", 1):
            return gateway


BAD_LIVES = "die raise wrong-magic wrong-wire wrong-name no-address no-url die-after-ready garbage line failed-late"


@pytest.mark.parametrize("does", BAD_LIVES.split())
async def test_after_a_bad_life_comes_a_good_one(home: Path, installed: Callable[..., None], does: str) -> None:
    installed(NAME)
    async with running_module(home, gateways=tables(does=does, times=1)) as module:
        gateway = await second_life(module)
        assert gateway.address is not None
        async with talking(gateway.address) as talk:
            assert (await talk.ask("tell"))["pid"] == gateway.pid
        assert [child.pid for child in marked_children()] == [gateway.pid]


@pytest.mark.parametrize("does", ["stop", "hold"])
async def test_one_that_gives_no_sign_of_life_is_replaced(
    home: Path, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    monkeypatch.setattr(life, "WATCH_INTERVAL_S", 0.05)
    monkeypatch.setattr(life, "SILENCE_S", 1.0)
    installed(NAME)
    async with running_module(home, gateways=tables(does=does, times=1)) as module:
        await module.gateway_address(NAME)
        await module.gateway_address(NAME)


async def test_one_that_is_never_ready_is_replaced(home: Path, installed: Callable[..., None]) -> None:
    installed(NAME)
    workers = WorkerSettings(start_s=2.0)
    async with (
        running_module(home, gateways=tables(does="hang", times=1), workers=workers) as module,
        talking(await module.gateway_address(NAME)) as talk,
    ):
        await talk.ask("tell")


async def test_one_that_cannot_serve_is_failed_with_its_sentence_and_the_module_serves(
    home: Path, installed: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    installed(NAME, "echo")
    said = "port 9 is in use; choose another with gateway.fake_gateway.port"
    async with running_module(home, gateways=tables(does="failed")) as module:
        await until(lambda: said in caplog.text, "the gateway was given up")
        async with connect(module.url) as llm, bounded():
            await llm.load("echo")
            (gateway,) = [worker for worker in (await llm.stats()).workers if worker.kind == "gateway"]
        assert (gateway.state, gateway.pid, gateway.restarts, gateway.address) == ("failed", None, 0, None)
    assert (home / "data" / NAME / "starts").read_text("utf-8") == "1"


@pytest.mark.parametrize(("does", "warned"), [("serve", False), ("hang-at-end", False), ("deaf", True)])
async def test_the_end_of_the_module_ends_it_in_the_steps_it_needs(
    home: Path, installed: Callable[..., None], caplog: pytest.LogCaptureFixture, does: str, warned: bool
) -> None:
    installed(NAME)
    async with running_module(home, gateways=tables(does=does)) as module:
        async with talking(await module.gateway_address(NAME)) as talk:
            pid = (await talk.ask("tell"))["pid"]
            await talk.ask("connect")
            assert await module.stop() == 0
        wait_gone([pid])
    assert ("did not leave at the end of its input" in caplog.text) == warned


@pytest.mark.parametrize("stopped", [False, True])
def test_nothing_of_a_gateway_survives_a_module_that_is_killed(
    home: Path, installed: Callable[..., None], stopped: bool
) -> None:
    installed(NAME)
    with module_process(home, tables(does="deaf")) as module:
        module.address(NAME)
        (gateway,) = marked_children(module.process.pid)
        if stopped:
            gateway.suspend()
        module.process.kill()
        wait_gone([gateway.pid])


def test_the_token_of_a_run_is_in_no_log_no_argv_and_no_environment(home: Path, installed: Callable[..., None]) -> None:
    installed(NAME)
    with module_process(home, tables(does="say")) as module:

        async def told() -> dict[str, Any]:
            async with talking(module.address(NAME)) as talk:
                await talk.ask("connect")
                return await talk.ask("tell")

        facts = asyncio.run(told())
        token = facts["token"]
        assert len(token) >= 32
        assert token not in str(facts["argv"]) + str(facts["environ"])
        for process in (psutil.Process(module.process.pid), *psutil.Process(module.process.pid).children()):
            assert token not in str(process.cmdline()) + str(process.environ())
        module.process.send_signal(signal.SIGTERM)
        assert module.process.wait() == 0
    files = [path for path in home.rglob("*") if path.is_file() and (home / "envs") not in path.parents]
    written = {path: path.read_bytes() for path in files}
    assert b"its token is [redacted]" in written[home / "logs" / f"{NAME}.log"]
    assert home / "logs" / "waifu-llm.log" in written
    assert not [path for path, data in written.items() if token.encode() in data]
