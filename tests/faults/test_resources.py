"""Programme P15: a resource that runs out, once each, for the module as a process. What then happens is defined."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import psutil
import pytest
from support.chaos.ledger import Ledger, Plan, Request
from support.chaos.module import ChaosModule
from support.chaos.program import DISK_FULL
from support.chaos.visit import Visit
from support.running_module import served
from support.waiting import WAIT_S, bounded, until, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of other processes are set by prlimit")

HELLO = Plan("echo", "echo", "hello there", "hello there")
SPARE = 12
STRANGERS = 60
MORE_MEMORY = 64 * 2**20

Start = Callable[..., Awaitable[ChaosModule]]


@pytest.fixture
async def start(home: Path, installed: Callable[..., None]) -> AsyncIterator[Start]:
    """`await start("echo", UV_OFFLINE="1")`: a module in which these providers are installed, with these variables."""
    modules: list[ChaosModule] = []

    async def start(*names: str, **env: str) -> ChaosModule:
        installed(*names)
        modules.append(await ChaosModule.start(home, env))
        return modules[-1]

    yield start
    for module in modules:
        if module.process.returncode is None:
            module.process.terminate()
        async with bounded():
            assert await module.process.wait() == 0
        await module.kill()
        await until(lambda module=module: not module.survivors(), "nobody is left")  # type: ignore[misc]


@pytest.fixture
async def visit() -> AsyncIterator[Callable[[ChaosModule], Awaitable[Visit]]]:
    """A client of a module; all its requests have one end each, with the text that was asked for."""
    ledger = Ledger(())
    visits: list[Visit] = []

    async def open_one(module: ChaosModule) -> Visit:
        visits.append(await Visit(ledger, f"client {len(visits)}", Random(0), "http://127.0.0.1:1").open(module.url))
        return visits[-1]

    yield open_one
    for visit in visits:
        await visit.leave()
    assert ledger.breaches == []


Client = Callable[[ChaosModule], Awaitable[Visit]]


async def ended(visit: Visit, request: Request) -> Request:
    await visit.ended(request)
    return request


async def hello(visit: Visit) -> str:
    return (await ended(visit, visit.generate(HELLO))).outcome


async def test_p15_a_full_disk_fails_the_install_says_so_and_the_next_one_succeeds(start: Start, visit: Client) -> None:
    module = await start("echo")
    client = await visit(module)
    (module.home.root / DISK_FULL).touch()
    assert not await client.load("victim")
    assert "disk" in client.told
    assert await client.load("echo")
    assert await hello(client) == "SUCCESS"
    (module.home.root / DISK_FULL).unlink()
    assert await client.load("victim")
    assert list(module.home.envs.glob(".*")) == []


async def test_p15_without_a_file_to_be_had_who_is_connected_is_served_and_a_load_is_told_why(
    start: Start, visit: Client
) -> None:
    module = await start("echo", "fake")
    client = await visit(module)
    assert await client.load("echo")
    core = psutil.Process(module.pid)
    usual = core.rlimit(psutil.RLIMIT_NOFILE)
    core.rlimit(psutil.RLIMIT_NOFILE, (core.num_fds() + SPARE, usual[1]))
    at = urlsplit(module.url)
    strangers = [socket.create_connection((at.hostname, at.port)) for _ in range(STRANGERS)]
    await until(lambda: core.num_fds() >= core.rlimit(psutil.RLIMIT_NOFILE)[0] - 1, "there are no files left")
    assert await hello(client) == "SUCCESS"
    assert not await client.load("fake")
    assert client.told
    assert await hello(client) == "SUCCESS"
    for stranger in strangers:
        stranger.close()
    core.rlimit(psutil.RLIMIT_NOFILE, usual)
    assert await (await visit(module)).load("fake")


async def test_p15_a_worker_that_gets_no_memory_ends_that_request_and_serves_the_next(
    start: Start, visit: Client
) -> None:
    module = await start("fake")
    client = await visit(module)
    assert await client.load("fake")
    (worker,) = module.workers()
    worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + MORE_MEMORY, psutil.RLIM_INFINITY))
    failed = await ended(client, client.generate(Plan("fake", "size=400000000", fails=True)))
    assert failed.outcome == "UNEXPECTED"
    assert "memory" in failed.told
    assert (await ended(client, client.generate(Plan("fake", "count=3", whole="0 1 2 ")))).outcome == "SUCCESS"
    assert module.workers() == [worker]


@pytest.mark.parametrize("where", ["/proc/waifu-llm", "/dev/null/waifu-llm"])
def test_p15_a_home_that_nobody_can_write_is_one_line_and_exit_code_1(
    where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WAIFU_LLM_HOME", where)
    argv = [sys.executable, "-m", "waifu_llm.cli", "serve", "--port", "0"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=WAIT_S, cwd=tmp_path)
    assert done.returncode == 1
    assert where in done.stderr
    assert "Traceback" not in done.stderr


async def test_p15_a_clock_that_jumps_by_a_month_ends_nothing(start: Start, visit: Client) -> None:
    module = await start("echo", "fake")
    client = await visit(module)
    assert await client.load("echo")
    stream = client.generate(Plan("echo", "echo-slow", "a b c d e f", "a b c d e f"))
    await client.heard(stream, 1)
    await module.inside("jump")
    await client.ended(stream)
    assert stream.outcome == "SUCCESS"
    assert await client.load("fake")
    assert await hello(client) == "SUCCESS"
    assert (await ended(client, client.ask("get_stats"))).outcome == "SUCCESS"


async def test_p15_without_a_network_what_is_installed_works_and_the_rest_says_at_once_what_is_missing(
    start: Start, visit: Client, tmp_path: Path
) -> None:
    nowhere = "http://127.0.0.1:1/simple"
    alone = {"UV_DEFAULT_INDEX": nowhere, "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_HTTP_RETRIES": "0"}
    module = await start("echo", "openai", **alone)
    client = await visit(module)
    assert await client.load("echo")
    assert await hello(client) == "SUCCESS"
    assert not await client.load("openai")
    assert "127.0.0.1:1" in client.told
    assert not await client.load("victim")
    assert client.told
    assert await hello(client) == "SUCCESS"


def test_p15_when_whoever_read_stderr_is_gone_the_module_goes_on() -> None:
    with served() as module:
        assert module.process.stderr is not None
        with Path(os.devnull).open() as nothing:
            os.dup2(nothing.fileno(), module.process.stderr.fileno())
        at = urlsplit(module.url)
        for _ in range(3):
            with socket.create_connection((at.hostname, at.port)) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
                assert stranger.recv(100)
        module.process.terminate()
        wait_until(lambda: module.process.poll() is not None, "it has ended")
        assert module.process.returncode == 0
