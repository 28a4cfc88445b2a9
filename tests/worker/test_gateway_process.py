"""A gateway as a real process: what the core sees at the other end of its pipes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.gateway_process import GatewayProcess, make_gateway_seed, running_gateway
from support.waiting import wait_gone

from waifu_worker.framing import encode
from waifu_worker.wire import WIRE_VERSION, Beat, GatewayFailed, GatewayReady


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gateway_seed(tmp_path_factory.mktemp("seeds"))


@pytest.fixture
def gateway(seed: Path, tmp_path: Path) -> Iterator[GatewayProcess]:
    with running_gateway(seed, tmp_path / "data") as process:
        yield process


def ready(gateway: GatewayProcess, **options: object) -> GatewayReady:
    gateway.start(**options)
    first = gateway.next()
    assert isinstance(first, GatewayReady), (first, gateway.stderr)
    return first


def connected(greeting: GatewayReady) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(greeting.address.rpartition(":")[2])))


def test_after_its_start_line_it_serves_and_then_says_where(gateway: GatewayProcess) -> None:
    first = ready(gateway)
    assert (first.magic, first.wire, first.name) == ("waifu-llm", WIRE_VERSION, "fake_gateway")
    with connected(first) as client, client.makefile("rw") as lines:
        lines.write(json.dumps({"do": "tell"}) + "\n")
        lines.flush()
        told = json.loads(lines.readline())
        assert (told["pid"], told["collects"]) == (gateway.process.pid, True)


def test_without_a_start_line_it_says_nothing_and_leaves_at_the_end_of_its_input(gateway: GatewayProcess) -> None:
    gateway.input.close()
    assert gateway.next() is None
    assert gateway.wait() == 0
    assert gateway.stderr == ""


def test_at_the_end_of_its_input_it_closes_what_it_serves_and_leaves(gateway: GatewayProcess) -> None:
    with connected(ready(gateway)) as client:
        gateway.input.close()
        assert gateway.wait() == 0
        assert client.recv(1) == b""
    assert gateway.stderr == ""


def test_one_that_does_not_come_to_its_end_leaves_all_the_same(gateway: GatewayProcess) -> None:
    ready(gateway, does="hang-at-end")
    gateway.input.close()
    assert gateway.wait() == 0


def test_one_that_cannot_serve_says_why_in_one_sentence_and_leaves(gateway: GatewayProcess) -> None:
    gateway.start(does="failed")
    assert gateway.next() == GatewayFailed(message="port 9 is in use; choose another with gateway.fake_gateway.port")
    assert gateway.next() is None
    assert gateway.wait() == 1
    assert len(gateway.stderr.splitlines()) == 1


def test_a_bug_at_its_start_is_a_trace_on_stderr_and_no_line(gateway: GatewayProcess) -> None:
    gateway.start(does="raise")
    assert gateway.next() is None
    assert gateway.wait() == 1
    assert gateway.stderr.splitlines()[-1] == "RuntimeError: the fake gateway raises"


def test_lines_that_are_no_start_are_skipped_and_a_second_start_means_nothing(gateway: GatewayProcess) -> None:
    gateway.input.write(b"this is no message\n")
    ready(gateway)
    gateway.input.write(encode(gateway.line(does="die")))
    gateway.input.close()
    assert gateway.next() is None
    assert gateway.wait() == 0
    assert "skipped a line of 18 bytes" in gateway.stderr


def test_two_start_lines_at_once_are_one_start(gateway: GatewayProcess) -> None:
    gateway.input.write(encode(gateway.line()) + encode(gateway.line(does="die")))
    assert isinstance(gateway.next(), GatewayReady)
    gateway.input.close()
    assert gateway.wait() == 0


def test_once_it_is_ready_it_beats(gateway: GatewayProcess) -> None:
    ready(gateway)
    assert gateway.next() == Beat()


def test_it_leaves_where_nobody_reads_what_it_says(gateway: GatewayProcess) -> None:
    gateway.output.close()
    gateway.start()
    assert gateway.wait() == 0


_PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-I", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(child.pid, flush=True)
child.stdin.write(sys.stdin.buffer.readline())
child.stdin.flush()
sys.stdout.buffer.write(child.stdout.readline())
sys.stdout.flush()
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the end of the input does it")
def test_it_dies_with_its_parent_even_while_it_is_stopped(seed: Path, tmp_path: Path, gateway: GatewayProcess) -> None:
    line = encode(gateway.line())
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent:
        pid = int(parent.stdout.readline())
        parent.stdin.write(line)
        parent.stdin.flush()
        assert b"ready" in parent.stdout.readline()
        psutil.Process(pid).send_signal(signal.SIGSTOP)
        parent.kill()
        wait_gone([pid])
