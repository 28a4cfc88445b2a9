"""Row R14: where no file can be opened any more, clients wait, nobody writes the log full, and workers still start."""

import asyncio
import contextlib
import logging
import os
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from support.peer import connected
from support.raw_frames import RawSocket, request
from support.serving import serving
from support.waiting import WAIT_S, until

from waifu_llm.server.listening import _NoMoreFiles


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """This process can open none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Few enough to be taken in no time, more than are open already.
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 4096), hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_r14_clients_wait_where_no_file_can_be_opened_and_one_line_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 0
    judge = _NoMoreFiles.filter

    def counting(self: _NoMoreFiles, record: logging.LogRecord) -> bool:
        nonlocal failures
        passes = judge(self, record)
        failures += not passes
        return passes

    monkeypatch.setattr(_NoMoreFiles, "filter", counting)
    monkeypatch.setattr("asyncio.constants.ACCEPT_RETRY_DELAY", 0.001)
    loop = asyncio.get_running_loop()
    async with serving() as running, connected(running.url) as inside:
        clients = [socket.socket() for _ in range(5)]
        with no_more_files():
            for client in clients:
                client.setblocking(False)
                await loop.sock_connect(client, (running.host, running.port))
            await until(lambda: failures >= 20, "it has tried again and again")
            await inside.say("get_providers")
            await inside.hear_types("get_providers_done")
        for client in clients:
            raw = RawSocket(*await asyncio.open_connection(sock=client))
            raw.send(request("Host: localhost"))
            assert await raw.status() == 101
            raw.reset()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert "ulimit -n" in lines[0]


def test_r14_other_failures_of_asyncio_are_told_as_ever() -> None:
    judge = _NoMoreFiles()

    def record(message: str, error: BaseException | None) -> logging.LogRecord:
        trace = None if error is None else (type(error), error, None)
        return logging.LogRecord("asyncio", logging.ERROR, __file__, 1, message, None, trace)

    full = OSError(24, "Too many open files")
    assert judge.filter(record("Task exception was never retrieved", full))
    assert judge.filter(record("socket.accept() out of system resource", ValueError()))
    assert judge.filter(record("socket.accept() out of system resource", None))
    assert judge.filter(record("socket.accept() out of system resource", OSError(104, "reset")))
    assert not judge.filter(record("socket.accept() out of system resource", full))


@contextlib.contextmanager
def with_64_files() -> Iterator[tuple[str, int, list[str]]]:
    """A module that may open so few: its host and port, and its log, line by line, once it has ended."""
    program = [sys.executable, "-m", "waifu_llm.cli", "serve", "--port", "0"]
    few = ["bash", "-c", 'ulimit -n 64 && exec "$0" "$@"', *program]
    log: list[str] = []
    with subprocess.Popen(few, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            found = re.search(r"ws://([\d.]+):(\d+)", process.stdout.readline())
            assert found is not None
            yield found[1], int(found[2]), log
        finally:
            process.terminate()
            assert process.wait(WAIT_S) == 0
        log += process.stderr.read().splitlines()


async def test_r14_with_64_files_a_crowd_of_clients_leaves_enough_for_a_worker(installed: Callable[..., None]) -> None:
    installed("echo")
    with with_64_files() as (host, port, log):
        crowd = [RawSocket(*await asyncio.open_connection(host, port)) for _ in range(100)]
        async with connected(f"ws://{host}:{port}") as peer:
            for raw in crowd[-40:]:
                raw.send(request("Host: localhost"))
            assert {await raw.status() for raw in crowd[-40:]} <= {101, 503, 0}
            await peer.load("echo")
            await peer.generate("g", stream=False)
            (done,) = await peer.hear_types("generate_done")
            assert done["response"] == "one two three"
        for raw in crowd:
            raw.reset()
    assert not [line for line in log if "Traceback" in line or "Too many open files" in line]
    assert len(log) < 250
