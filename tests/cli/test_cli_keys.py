"""`waifu-llm keys`: a key goes in by a pipe or without echo, and never comes out whole."""

import json
import sys
from pathlib import Path

import pytest
from support.command_line import Cli

KEY = "sk-0123456789abcdefghij"


def test_a_key_is_stored_from_a_pipe_listed_masked_and_removed(cli: Cli, home: Path) -> None:
    ran = cli("keys", "set", "openai", piped=f"{KEY}\n")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == f"the key of openai is stored in {home}/keys.json\n"
    assert cli("keys", "list").out == "PROVIDER  KEY    WHERE\nopenai    …ghij  file\n"
    assert json.loads(cli("keys", "list", "--json").out) == [{"provider": "openai", "masked": "…ghij", "where": "file"}]
    assert cli("keys", "remove", "openai").code == 0
    assert cli("keys", "list").err == "no keys are stored; `waifu-llm keys set PROVIDER` stores one\n"
    ran = cli("keys", "remove", "openai")
    assert (ran.code, ran.err) == (1, "waifu-llm: no key of openai is stored\n")


def test_without_keys_the_json_list_is_empty(cli: Cli) -> None:
    assert json.loads(cli("keys", "list", "--json").out) == []


def test_a_key_among_the_arguments_is_refused(cli: Cli, home: Path) -> None:
    assert cli("keys", "set", "openai", KEY).code == 2
    assert not home.exists()


@pytest.mark.parametrize(
    ("provider", "piped", "code", "part"),
    [
        ("openai", "", 2, "no key was given"),
        ("openai", "\n", 2, "no key was given"),
        ("openai", "two words", 1, "that is no key"),
        ("openai", "k" * 16385, 1, "that is no key"),
        ("echo", KEY, 2, "echo needs no key"),
        ("nobody", KEY, 1, "there is no provider 'nobody'; there are: echo, openai"),
    ],
)
def test_what_cannot_be_stored_is_told(cli: Cli, provider: str, piped: str, code: int, part: str) -> None:
    ran = cli("keys", "set", provider, piped=piped)
    assert ran.code == code
    assert part in ran.err


def test_a_variable_that_goes_before_the_stored_key_is_pointed_out(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "another-key")
    err = cli("keys", "set", "openai", piped=KEY).err
    assert "warning: the variable OPENAI_API_KEY is set and goes before the stored key" in err
    assert "another-key" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_keys_that_others_can_read_are_warned_of(cli: Cli, home: Path) -> None:
    cli("keys", "set", "openai", piped=KEY)
    (home / "keys.json").chmod(0o644)
    assert "warning: " in cli("keys", "list").err
