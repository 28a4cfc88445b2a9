"""`waifu-llm check`: one sentence for each problem, and what to do about it."""

import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.command_line import Cli, Module
from support.stores import write_worker

from waifu_llm import catalog
from waifu_llm.cli import context, inspection
from waifu_llm.config import ServerSettings, Settings
from waifu_llm.config.example import example_text
from waifu_llm.environment import uv
from waifu_llm.errors import InstallFailed

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")


@pytest.fixture(autouse=True)
def free_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Whatever runs on this machine at the default port is not looked at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    monkeypatch.setenv("WAIFU_LLM_SERVER_PORT", str(port))
    return port


def checked(cli: Cli) -> tuple[dict[str, Any], list[str]]:
    ran = cli("check", "--json")
    answer = json.loads(ran.out)
    assert ran.code == (1 if answer["problems"] else 0)
    return answer["facts"], answer["problems"]


def test_a_fresh_home_has_no_problems(cli: Cli, home: Path) -> None:
    ran = cli("check")
    assert (ran.code, ran.err) == (0, "")
    assert f"home         {home}\n" in ran.out
    assert ran.out.endswith("\nno problems\n")


def test_facts_say_what_is_there(cli: Cli, installed: Callable[..., None], home: Path) -> None:
    installed("echo")
    home.chmod(0o700)
    facts, problems = checked(cli)
    assert problems == []
    assert facts["installed"] == "echo"
    assert facts["running"] == "no module"
    assert facts["stored keys"] == "none"
    assert facts["uv"].startswith("0.")


def test_a_listed_service_that_is_no_host_is_a_problem(cli: Cli, home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "waifu-llm.toml").write_text('[server]\nallow_upstream = ["http://x"]\n')
    _, problems = checked(cli)
    assert "'http://x' in server.allow_upstream is no host such as llm.example.org or 10.0.0.5:8080" in problems


def test_a_provider_to_prewarm_that_is_none_is_a_problem(cli: Cli, home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "waifu-llm.toml").write_text('[workers]\nprewarm = ["echo", "opnai"]\n')
    _, problems = checked(cli)
    (problem,) = (problem for problem in problems if "prewarm" in problem)
    assert problem.endswith("waifu-llm.toml, line 2: prewarm: there is no provider opnai; did you mean openai?")


def test_a_problem_is_printed_as_one_line(cli: Cli, home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "waifu-llm.toml").write_text("[server]\nprot = 1\n")
    ran = cli("check")
    assert ran.code == 1
    line = f"problem: {home}/waifu-llm.toml, line 2: [server] has no key prot; did you mean port?\n"
    assert ran.out.endswith(f"\n{line}")


def test_a_home_that_cannot_be_made_is_told(cli: Cli, home: Path) -> None:
    home.write_text("in the way")
    _, problems = checked(cli)
    assert any(problem.startswith("the home cannot be written (") for problem in problems)


@posix
def test_a_home_that_cannot_be_written_is_told(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", forbidden)
    _, problems = checked(cli)
    assert problems == [
        f"the home cannot be written ({home}: Permission denied); change its rights or set WAIFU_LLM_HOME"
    ]


def test_a_disk_that_is_nearly_full_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context.Context, "free_bytes", lambda self: 1000)
    _, (problem,) = checked(cli)
    assert problem.startswith("only 1000 B are free where ")


@posix
def test_keys_and_homes_that_others_can_read_are_told(cli: Cli, home: Path) -> None:
    cli("keys", "set", "openai", piped="sk-0123456789")
    (home / "keys.json").chmod(0o604)
    home.chmod(0o755)
    facts, problems = checked(cli)
    assert facts["stored keys"] == "openai"
    assert problems == [
        f"{home}/keys.json can be read by other users; run: chmod 600 {home}/keys.json",
        f"{home} can be read by other users; run: chmod 700 {home}",
    ]


def test_damaged_keys_are_told(cli: Cli, home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "keys.json").write_text("{")
    (home / "keys.json").chmod(0o600)
    _, (problem,) = checked(cli)
    assert problem == f"{home}/keys.json is damaged; remove it and set the keys again"


def test_unwise_settings_are_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAIFU_LLM_SERVER_HOST", "0.0.0.0")
    _, (problem,) = checked(cli)
    assert problem.startswith("listening on 0.0.0.0 lets other machines in: set a token first")
    monkeypatch.setenv("WAIFU_LLM_TOKEN", "short")
    _, problems = checked(cli)
    assert [problem.split()[0] for problem in problems[:2]] == ["the", "listening"]


def test_certificates_that_are_not_there_are_told(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WAIFU_LLM_SERVER_TLS_CERT", str(tmp_path / "cert.pem"))
    monkeypatch.setenv("WAIFU_LLM_SERVER_TLS_KEY", str(tmp_path))
    _, problems = checked(cli)
    assert problems == [
        f"server.tls_cert: there is no file {tmp_path}/cert.pem",
        f"server.tls_key: there is no file {tmp_path}",
    ]


def fake_uv(folder: Path, script: str) -> str:
    file = folder / "uv"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return str(file)


@posix
@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("exit 101", "uv ends with exit code 101; run: python -m pip install"),
        ("echo uv 0.4.0", "uv 0.4.0 is too old to be safe; run: python -m pip install"),
        ("echo something else", "uv does not say its version"),
    ],
)
def test_a_uv_that_is_no_use_is_told(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, problem: str
) -> None:
    monkeypatch.setattr(uv, "find_uv", lambda: fake_uv(tmp_path, script))
    _, (told,) = checked(cli)
    assert told.startswith(problem)


def test_a_uv_that_cannot_be_run_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(uv, "find_uv", lambda: str(tmp_path / "none"))
    _, (told,) = checked(cli)
    assert told.startswith("uv cannot be run (")


def test_a_uv_that_is_missing_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise InstallFailed("there is no uv")

    monkeypatch.setattr(uv, "find_uv", missing)
    assert checked(cli)[1] == ["there is no uv"]


def test_environments_that_are_broken_or_out_of_date_are_told(
    cli: Cli, installed: Callable[..., None], home: Path
) -> None:
    installed("echo")
    home.chmod(0o700)
    (folder,) = (home / "envs").iterdir()
    shutil.rmtree(folder / "bin", ignore_errors=True)
    shutil.rmtree(folder / "Scripts", ignore_errors=True)
    _, (problem,) = checked(cli)
    assert problem.startswith("the environment of echo is broken: ")
    assert problem.endswith("; run: waifu-llm update echo")
    folder.rename(folder.with_name("echo-0123456789abcdef"))
    facts, problems = checked(cli)
    assert (facts["out of date"], problems) == ("echo (`waifu-llm update`)", [])


def test_providers_that_are_packed_wrongly_are_told(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = tmp_path / "workers"
    monkeypatch.setattr(catalog, "bundled_roots", lambda: (workers,))
    write_worker(workers, "unlocked", "")
    (workers / "unlocked" / "requirements.lock").unlink()
    write_worker(workers, "damaged", "")
    (workers / "damaged" / "pyproject.toml").write_text("[project")
    _, problems = checked(cli)
    assert ["unlocked" in problems[0], "damaged" in problems[1]] == [True, True]


def test_a_port_that_another_program_has_is_told_with_its_name(cli: Cli, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        _, (problem,) = checked(cli)
    assert problem.startswith(f"port {free_port} is in use by ")
    assert f"(pid {os.getpid()})" in problem


def test_no_port_is_looked_at_where_the_settings_cannot_be_read(
    cli: Cli, free_port: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "Settings", lambda: Settings(server=ServerSettings(port=free_port)))
    home.mkdir(mode=0o700)
    (home / "waifu-llm.toml").write_text("[server]\nprot = 1\n")
    with socket.create_server(("127.0.0.1", free_port)):
        facts, (problem,) = checked(cli)
    assert problem.endswith("[server] has no key prot; did you mean port?")
    assert facts["running"] == "no module"


def test_a_port_that_somebody_unknown_has_is_told(cli: Cli, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(kind: str) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", hidden)
    with socket.create_server(("127.0.0.1", free_port)):
        _, (problem,) = checked(cli)
    assert problem.startswith(f"port {free_port} is in use by another program; ")


def test_our_own_module_on_the_port_is_no_problem(
    cli: Cli, serve: Callable[..., Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = serve()
    monkeypatch.setenv("WAIFU_LLM_SERVER_PORT", module.url.rpartition(":")[2])
    facts, problems = checked(cli)
    assert (facts["running"], problems) == (f"{module.url} (pid {module.process.pid})", [])


def test_an_address_of_another_machine_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAIFU_LLM_SERVER_HOST", "192.0.2.1")
    monkeypatch.setenv("WAIFU_LLM_TOKEN", "0123456789abcdef")
    _, problems = checked(cli)
    assert problems[-1].startswith("server.host: 192.0.2.1 cannot be listened on: ")


def test_the_config_file_is_written_once(cli: Cli, home: Path) -> None:
    ran = cli("check", "--write-config")
    file = home / "waifu-llm.toml"
    assert (ran.code, ran.err) == (0, f"wrote {file}; all keys in it are commented out\n")
    assert file.read_text("utf-8") == example_text([])
    file.write_text("# mine")
    ran = cli("check", "--write-config")
    assert (ran.code, file.read_text()) == (1, "# mine")
    assert checked(cli)[0]["config"] == str(file)
