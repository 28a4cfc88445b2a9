"""The program as a whole: help, usage, exit codes, and what it costs to start."""

import errno
import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from support.command_line import PROGRAM, Cli

from waifu_client.errors import AuthorizationError
from waifu_llm.cli import version_command
from waifu_llm.cli.parser import COMMANDS
from waifu_llm.errors import InstallFailed, UsageError

HEAVY = {"asyncio", "msgspec", "websockets", "psutil", "platformdirs", "filelock", "uv", "ssl", "logging", "tomllib"}


def imported_by(*arguments: str) -> set[str]:
    code = (
        f"import sys; from waifu_llm.cli import main; main({list(arguments)!r}); print(*sys.modules, file=sys.stderr)"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=True)
    return set(done.stderr.split())


def test_help_imports_nothing_heavy() -> None:
    modules = imported_by("main(['--help'])")
    assert "argparse" in modules
    assert not modules & HEAVY


def test_neither_does_the_help_of_any_command() -> None:
    calls = "; ".join(f"main([{name!r}, '--help'])" for name in COMMANDS)
    assert not imported_by(calls) & HEAVY


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(cli: Cli, name: str) -> None:
    ran = cli(name, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"usage: waifu-llm {name} ")
    assert f"  {name} " in cli("--help").out


def test_without_a_command_the_help_is_shown_and_the_usage_is_wrong(cli: Cli) -> None:
    ran = cli()
    assert ran.code == 2
    assert "commands:" in ran.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("sevre",), "waifu-llm: there is no command 'sevre'; did you mean serve? (see: waifu-llm --help)"),
        (("zzz",), "waifu-llm: there is no command 'zzz' (see: waifu-llm --help)"),
        (("--zzz",), "waifu-llm: unrecognized arguments: --zzz (see: waifu-llm --help)"),
        (("serve", "--prot", "1"), "waifu-llm: unrecognized arguments: --prot 1 (see: waifu-llm serve --help)"),
        (("keys",), "waifu-llm: the following arguments are required: ACTION (see: waifu-llm keys --help)"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(cli: Cli, arguments: tuple[str, ...], line: str) -> None:
    ran = cli(*arguments)
    assert (ran.code, ran.out, ran.err) == (2, "", f"{line}\n")


def test_the_version_is_shown(cli: Cli) -> None:
    assert re.fullmatch(r"waifu-llm \d+\.\d+\.\d+\n", cli("version").out)
    assert cli("--version").out == cli("version").out
    assert json.loads(cli("version", "--json").out)["protocol"] == 1


def test_the_program_runs_as_a_module(home: Path) -> None:
    done = subprocess.run([*PROGRAM, "version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("waifu-llm ")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InstallFailed("no network,\nsays uv"), 1, "waifu-llm: no network, says uv\n"),
        (AuthorizationError("the key is refused"), 1, "waifu-llm: the key is refused\n"),
        (UsageError("that makes no sense"), 2, "waifu-llm: that makes no sense\n"),
        (OSError(errno.ENOSPC, "No space left", "/home/x"), 1, "waifu-llm: /home/x: No space left\n"),
        (PermissionError(errno.EACCES, "Permission denied"), 1, "waifu-llm: Permission denied\n"),
        (KeyboardInterrupt(), 130, "\n"),
        (SystemExit("no code"), 1, ""),
        (SystemExit(None), 0, ""),
    ],
)
def test_an_expected_failure_is_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    def fail(args: Namespace) -> int:
        raise error

    monkeypatch.setattr(version_command, "run", fail)
    ran = cli("version")
    assert (ran.code, ran.err) == (code, line)


def fail_with(canary: str) -> None:
    raise ValueError(f"lost {canary}")


def test_an_error_of_ours_is_logged_without_keys_and_the_user_told_where(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, canary: str, home: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", canary)
    monkeypatch.setattr(version_command, "run", lambda args: fail_with(canary))
    ran = cli("version")
    log = home / "logs" / "waifu-llm.log"
    assert ran.code == 3
    assert ran.err.count("\n") == 1
    assert str(log) in ran.err
    assert "in fail_with" in log.read_text()
    assert canary not in ran.err + log.read_text()


def test_an_error_of_ours_is_printed_where_no_log_can_be_written(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    home.write_text("in the way")
    monkeypatch.setattr(version_command, "run", lambda args: fail_with("something"))
    ran = cli("version")
    assert ran.code == 3
    assert "in fail_with" in ran.err


def test_a_reader_that_has_enough_is_no_error(home: Path) -> None:
    process = subprocess.Popen([*PROGRAM, "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1
