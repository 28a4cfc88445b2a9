"""`serve --gateway` with the gateway that there is, as a process of its own, and what the other commands say of it."""

import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import PROGRAM, Cli, Module
from support.environments import ROOTS
from support.waiting import WAIT_S

from waifu_llm import catalog

Serve = Callable[..., Module]


@pytest.fixture(autouse=True)
def all_of_them(two_workers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "bundled_roots", lambda: ROOTS)


@pytest.fixture
def gateway(serve: Serve, installed: Callable[..., None], home: Path) -> str:
    """Where the gateway of a running module listens."""
    installed("lollms")
    home.chmod(0o700)
    module = serve("--gateway", "lollms", "--set", "gateway.lollms.port=0")
    assert module.process.stdout is not None
    line = module.process.stdout.readline()
    assert line.startswith("the gateway lollms listens at http://localhost:"), line
    return line.split()[-1]


def test_a_gateway_that_listens_is_shown_with_its_address(cli: Cli, gateway: str) -> None:
    first, heads, row = cli("ps").out.splitlines()
    assert first.endswith(", no clients")
    assert heads.split() == "NAME KIND STATE PID MEMORY RUNNING QUEUED UP RESTARTS ADDRESS".split()
    assert row.split()[:3] == ["lollms", "gateway", "ready"]
    assert row.split()[-1] == gateway
    (listed,) = json.loads(cli("ps", "--json").out)[0]["workers"]
    assert (listed["provider"], listed["kind"], listed["address"]) == ("lollms", "gateway", gateway)


def test_what_a_gateway_runs_from_is_kept(cli: Cli, gateway: str, home: Path) -> None:
    ran = cli("uninstall", "lollms")
    assert ran.code == 1
    assert " stays: " in ran.err


def test_our_own_gateway_on_its_port_is_no_problem(cli: Cli, gateway: str, home: Path) -> None:
    port = gateway.rpartition(":")[2]
    (home / "waifu-llm.toml").write_text(f"[server]\nport = 0\n[gateway.lollms]\nenabled = true\nport = {port}\n")
    answer = json.loads(cli("check", "--json").out)
    assert (answer["facts"]["gateways"], answer["problems"]) == ("lollms", [])


def test_a_gateway_stops_with_its_module(cli: Cli, gateway: str) -> None:
    assert cli("stop").code == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(gateway.rpartition(":")[2])), WAIT_S)


def test_a_gateway_that_cannot_serve_says_why_and_the_module_serves_on(
    cli: Cli, installed: Callable[..., None], home: Path
) -> None:
    installed("lollms")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = subprocess.Popen(
            [*PROGRAM, "serve", "--port", "0", "--gateway", "lollms", "--set", f"gateway.lollms.port={port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "WAIFU_LLM_HOME": str(home)},
        )
        assert process.stderr is not None
        try:
            said = next(line for line in process.stderr if " ERROR " in line)
            next(line for line in process.stderr if "-> failed" in line)
            _, _, row = cli("ps").out.splitlines()
        finally:
            process.terminate()
            out, _ = process.communicate(timeout=WAIT_S)
    assert "the gateway lollms is given up: " in said
    assert str(port) in said
    assert row.split()[:4] == ["lollms", "gateway", "failed", "-"]
    assert out.count("\n") == 1
