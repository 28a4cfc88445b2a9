"""`waifu-llm serve` as the process a user starts: how it begins, and all the ways it ends."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import websockets
from support.running_module import marked_children, served
from support.waiting import WAIT_S, wait_gone

from waifu_client import connect
from waifu_client.errors import ConnectionLost, LLMError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as they are here are POSIX")


def load_and_stream(url: str, on_first: Callable[[], None]) -> LLMError | None:
    """Start a long stream, call `on_first` at its first chunk, and give how it ended."""

    async def run() -> LLMError | None:
        async with connect(url) as llm:
            await llm.load("echo")
            first = True
            try:
                async for _ in llm.stream("word " * 10_000, model_id="echo-slow"):
                    if first:
                        first = False
                        on_first()
            except LLMError as error:
                return error
        return None

    return asyncio.run(run())


def test_sigterm_drains_and_exits_0(installed: Callable[..., None], home: Path) -> None:
    installed("echo")
    with served() as module:
        error = load_and_stream(module.url, lambda: module.signal(signal.SIGTERM))
        assert error is not None
        assert (error.code, error.reason) == ("INTERRUPT", "closing")
        assert module.wait() == 0
    assert list((home / "run").iterdir()) == []


def test_ctrl_c_drains_and_exits_130(installed: Callable[..., None]) -> None:
    installed("echo")
    with served() as module:
        error = load_and_stream(module.url, lambda: module.signal(signal.SIGINT))
        assert error is not None
        assert error.reason == "closing"
        assert module.wait() == 130


def test_a_remote_close_stops_the_module_with_exit_code_0(installed: Callable[..., None]) -> None:
    installed("echo")

    async def run(url: str) -> None:
        async with connect(url) as llm:
            await llm.load("echo")
            await llm.close_module()

    with served() as module:
        asyncio.run(run(module.url))
        assert module.wait() == 0


def test_with_no_remote_close_only_the_askers_connection_ends(installed: Callable[..., None]) -> None:
    installed("echo")

    async def run(url: str) -> None:
        async with connect(url) as other:
            async with connect(url) as asker:
                await asker.close_module()
            await other.load("echo")
            assert (await other.generate("still here", model_id="echo")).text == "still here"

    with served("--no-remote-close") as module:
        asyncio.run(run(module.url))


@pytest.mark.parametrize("stopped", [False, True])
def test_nothing_survives_a_module_that_is_killed(installed: Callable[..., None], stopped: bool) -> None:
    installed("echo")
    with served() as module:
        family: list[psutil.Process] = []

        def kill() -> None:
            family.extend(marked_children(module.process.pid))
            if stopped:
                family[0].suspend()
            module.process.kill()

        error = load_and_stream(module.url, kill)
        assert isinstance(error, ConnectionLost)
        assert len(family) == 1
        wait_gone(process.pid for process in family)


def test_a_second_ctrl_c_ends_it_now_and_leaves_nothing(installed: Callable[..., None]) -> None:
    installed("echo")
    with served() as module:
        family: list[psutil.Process] = []

        def twice() -> None:
            family.extend(marked_children(module.process.pid))
            family[0].suspend()  # the drain would wait for it: the second Ctrl-C must not
            module.signal(signal.SIGINT)

        error = load_and_stream(module.url, twice)
        assert error is not None
        module.signal(signal.SIGINT)
        assert module.wait() == 130
        wait_gone(process.pid for process in family)


def test_a_port_in_use_is_one_clear_line_and_exit_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "waifu_llm.cli", "serve", "--port", port],
            capture_output=True,
            text=True,
            check=False,
            env=dict(os.environ),
        )
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr
    assert "--port" in done.stderr


def test_off_loopback_without_a_token_is_refused_with_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "waifu_llm.cli", "serve", "--host", "0.0.0.0", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 2
    assert "WAIFU_LLM_TOKEN" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_with_a_certificate_it_speaks_wss() -> None:
    """What TLS needs is imported late."""
    certificate = str(Path(__file__).parents[1] / "server" / "data" / "localhost.pem")
    trusting = ssl.create_default_context(cafile=certificate)

    async def ask(url: str) -> str | bytes:
        async with asyncio.timeout(WAIT_S), websockets.connect(url, ssl=trusting) as socket:
            await socket.send('{"type": "get_providers", "unique_request_id": "1"}')
            return await socket.recv()

    with served("--tls-cert", certificate, "--tls-key", certificate) as module:
        assert "get_providers_done" in str(asyncio.run(ask(module.url)))
        module.signal(signal.SIGTERM)
        assert module.wait() == 0


def test_two_modules_share_one_home_and_build_an_environment_once(home: Path) -> None:
    async def run(*urls: str) -> None:
        async def one(url: str) -> str:
            async with connect(url) as llm:
                await llm.load("echo")
                return (await llm.generate("hello", model_id="echo")).text

        assert await asyncio.gather(*map(one, urls)) == ["hello"] * len(urls)

    with served() as first, served() as second:
        asyncio.run(run(first.url, second.url))
    built = [folder.name for folder in (home / "envs").iterdir()]
    assert len(built) == 1
    assert built[0].startswith("echo-")
