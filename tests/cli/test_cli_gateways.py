"""What the commands say of gateways: listed, checked, configured, and kept apart from providers."""

import json
import os
import socket
from pathlib import Path

import pytest
from support.command_line import Cli
from support.stores import write_worker

from waifu_llm import catalog
from waifu_llm.config.example import example_text

OPTIONS = """\
[tool.waifu-llm.options.host]
type = "string"
default = "localhost"
help = "The address to listen on"

[tool.waifu-llm.options.port]
type = "integer"
default = 9600
help = "The port"

[tool.waifu-llm.options.token_file]
type = "path"
help = "A file with a token"

[tool.waifu-llm.options.roots]
type = "paths"
help = "Folders"
"""


@pytest.fixture(autouse=True)
def door(two_workers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands know a gateway called door, beside their two workers."""
    (workers,) = catalog.bundled_roots()
    gateways = tmp_path / "gateways"
    write_worker(gateways, "door", "", kind="gateway", provider="", more=OPTIONS)
    monkeypatch.setattr(catalog, "bundled_roots", lambda: (workers, gateways))


@pytest.fixture
def free_port(monkeypatch: pytest.MonkeyPatch) -> int:
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    monkeypatch.setenv("WAIFU_LLM_SERVER_PORT", str(ports[0]))
    return int(ports[1])


def checked(cli: Cli, home: Path, config: str) -> tuple[str, list[str]]:
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "waifu-llm.toml").write_text(config, "utf-8")
    answer = json.loads(cli("check", "--json").out)
    return answer["facts"]["gateways"], answer["problems"]


# Lists and installs.


def test_the_list_has_gateways_after_the_providers_and_says_that_they_are_gateways(cli: Cli) -> None:
    _, *rows = [line.split() for line in cli("list").out.splitlines()]
    assert [row[:2] for row in rows] == [["echo", "provider"], ["openai", "provider"], ["door", "gateway"]]
    assert rows[-1][2:] == ["not", "installed", "1.2.3", "-", "-", "-", "door"]
    entries = {entry["name"]: entry for entry in json.loads(cli("list", "--json").out)}
    assert (entries["door"]["kind"], entries["echo"]["kind"]) == ("gateway", "worker")


def test_a_gateway_is_installed_and_uninstalled_like_a_provider(cli: Cli, home: Path) -> None:
    assert "door is installed (" in cli("install", "door").err
    assert cli("update").err == "nothing is out of date\n"
    assert "removed envs/door-" in cli("uninstall", "door").err
    assert list((home / "envs").iterdir()) == []


def test_a_gateway_has_a_log(cli: Cli, home: Path) -> None:
    assert cli("logs", "door").err == f"waifu-llm: door has no log yet; it would be {home}/logs/door.log\n"


# What only providers have.


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("models", "door"), "models belong to providers: `waifu-llm list` names them"),
        (("chat", "door"), "`waifu-llm serve --gateway door` starts it for the programs that use it"),
        (("keys", "set", "door"), "it needs no key; `waifu-llm list` names those that do"),
        (("stop", "door"), "it stops with its module: `waifu-llm stop`"),
    ],
)
def test_a_gateway_where_a_provider_is_wanted_is_told_with_what_to_do(
    cli: Cli, arguments: tuple[str, ...], what: str
) -> None:
    ran = cli(*arguments, piped="text")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"waifu-llm: door is a gateway, not a provider; {what}\n"


# The flags of serve.


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--gateway", "dor"), "--gateway: there is no gateway 'dor'; there are: door; did you mean door?"),
        (("--gateway", "echo"), "--gateway: echo is a provider, not a gateway; there are: door"),
        (
            ("--set", "gateway.door.prt=1"),
            "--set gateway.door.prt: [gateway.door] has no option prt; did you mean port?",
        ),
        (("--set", "gateway.door.port=x"), "--set gateway.door.port: 'x' is not a whole number"),
    ],
)
def test_what_serve_cannot_do_for_a_run_is_wrong_usage(cli: Cli, arguments: tuple[str, ...], sentence: str) -> None:
    ran = cli("serve", "--port", "0", *arguments)
    assert (ran.code, ran.out, ran.err) == (2, "", f"waifu-llm: {sentence}\n")


# Checks.


def test_gateways_that_are_not_enabled_are_not_looked_at(cli: Cli, home: Path, free_port: int) -> None:
    assert checked(cli, home, "[gateway.door]\ntoken_file = 'none'") == ("none is enabled", [])


def test_an_enabled_gateway_that_is_not_installed_is_told(cli: Cli, home: Path, free_port: int) -> None:
    gateways, (problem,) = checked(cli, home, f"[gateway.door]\nenabled = true\nport = {free_port}")
    assert gateways == "door"
    assert problem == (
        "the gateway door is enabled and not installed; run: waifu-llm install door "
        "(else the next `waifu-llm serve` does it first)"
    )


@pytest.fixture
def door_installed(cli: Cli, home: Path) -> None:
    assert cli("install", "door").code == 0
    home.chmod(0o700)


def test_an_enabled_gateway_that_can_serve_has_no_problems(
    cli: Cli, home: Path, free_port: int, door_installed: None
) -> None:
    config = f"[gateway.door]\nenabled = true\nport = {free_port}\ntoken_file = 'waifu-llm.toml'\nroots = ['.']"
    assert checked(cli, home, config) == ("door", [])


def test_files_of_a_gateway_that_are_not_there_are_told(
    cli: Cli, home: Path, free_port: int, door_installed: None
) -> None:
    config = f"[gateway.door]\nenabled = true\nport = {free_port}\ntoken_file = 'token'\nroots = ['.', '/no-such']"
    _, problems = checked(cli, home, config)
    assert problems == [
        f"gateway.door.token_file: there is no {home}/token",
        "gateway.door.roots: there is no /no-such",
    ]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_gateways_port_that_another_program_has_is_told_with_its_name(
    cli: Cli, home: Path, free_port: int, door_installed: None, host: str
) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        _, (problem,) = checked(cli, home, f"[gateway.door]\nenabled = true\nport = {free_port}\nhost = '{host}'")
    assert problem.startswith(f"port {free_port}, where the gateway door would listen, is in use by ")
    assert problem.endswith(f"(pid {os.getpid()}); end it, or choose another one (gateway.door.port)")


def test_a_gateways_port_that_is_none_is_told(cli: Cli, home: Path, free_port: int, door_installed: None) -> None:
    _, (problem,) = checked(cli, home, "[gateway.door]\nenabled = true\nport = 99999")
    assert problem == "gateway.door.port: 99999 is not a port, a whole number from 0 to 65535"


def test_a_gateway_on_the_port_of_the_module_is_told(
    cli: Cli, home: Path, free_port: int, door_installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAIFU_LLM_SERVER_PORT", str(free_port))
    _, (problem,) = checked(cli, home, f"[gateway.door]\nenabled = true\nport = {free_port}")
    assert problem == f"gateway.door.port and server.port are both {free_port}; choose another one for the gateway"


def test_the_written_config_file_shows_the_options_of_gateways(cli: Cli, home: Path) -> None:
    assert cli("check", "--write-config").code == 0
    written = (home / "waifu-llm.toml").read_text("utf-8")
    assert written == example_text(catalog.Catalog.read().gateways())
    assert (
        "[gateway.door]\n# Whether `waifu-llm serve` starts it; `--gateway` does it for one run\n# enabled = false\n"
        in written
    )
    assert "# The port\n# port = 9600\n" in written
    assert "# Folders\n# roots = []\n" in written
