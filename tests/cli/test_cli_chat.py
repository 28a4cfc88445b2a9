"""`waifu-llm chat` and `models` without a module: one answer, from arguments and pipes."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec
import pytest
from msgspec.structs import replace
from support.command_line import PROGRAM, Cli
from support.environments import SharedEnvironments
from support.waiting import WAIT_S

from waifu_client import Client, Loaded, LoadProgress, Models, Providers
from waifu_client.protocol import ProviderDetails
from waifu_llm.catalog import Catalog, Manifest
from waifu_llm.cli import main
from waifu_llm.cli.connection import Connected, load
from waifu_llm.cli.context import Context


@pytest.fixture(autouse=True)
def echo(installed: Callable[..., None]) -> None:
    installed("echo")


@pytest.mark.parametrize(
    ("arguments", "piped", "out"),
    [
        (("--prompt", "hello there"), "", "hello there\n"),
        ((), "from a pipe\n", "from a pipe\n"),
        (("--prompt", "Summarise:"), "a\nb\n", "Summarise:\n\na\nb\n"),
        (("--prompt", "x", "--system", "Be brief."), "", "x\n"),
        (("echo", "--prompt", "a model"), "", "a model\n"),
        (("--prompt", "a model behind", "echo"), "", "a model behind\n"),
    ],
)
def test_one_answer_is_printed_and_nothing_else(
    cli: Cli, arguments: tuple[str, ...], piped: str, out: str, no_leaks: None
) -> None:
    ran = cli("chat", "echo", *arguments, piped=piped)
    assert (ran.code, ran.out, ran.err) == (0, out, "")


@pytest.mark.parametrize(
    ("encoding", "out"), [("ascii", b"h?llo ?? ?"), ("cp1252", b"h\xe4llo ?? ?"), ("utf-8", "hällo 日本 🙂".encode())]
)
def test_a_pipe_that_has_not_every_character_gets_those_that_it_has(encoding: str, out: bytes) -> None:
    """It ended with exit code 3 at the first one (#2)."""
    ran = subprocess.run(
        [*PROGRAM, "chat", "echo", "--prompt", "hällo 日本 🙂"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        timeout=WAIT_S,
    )
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, out, b"")


def test_a_pipe_that_is_no_text_is_read_as_far_as_it_is() -> None:
    ran = subprocess.run(
        [*PROGRAM, "chat", "echo"],
        input=b"\xff good",
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        timeout=WAIT_S,
    )
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, "\ufffd good".encode(), b"")


def test_an_argument_that_is_no_text_is_asked_as_far_as_it_is(cli: Cli) -> None:
    ran = cli("chat", "echo", "--prompt", "a\udcffb")
    assert (ran.code, ran.out, ran.err) == (0, "a\ufffdb\n", "")


def test_closed_streams_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout"):
        monkeypatch.setattr(sys, name, None)
    assert main(["chat", "echo", "--prompt", "x"]) == 0


def test_a_module_that_was_started_for_a_command_is_nobody_elses(cli: Cli, home: Path) -> None:
    cli("chat", "echo", "--prompt", "x")
    assert list((home / "run").glob("*")) == []


def test_control_characters_of_a_model_do_not_reach_the_terminal(cli: Cli) -> None:
    assert cli("chat", "echo", "--prompt", "a\x1b[31mb\x07").out == "a[31mb\n"


def test_one_answer_as_json_has_the_counts_and_the_unaltered_text(cli: Cli) -> None:
    answer = json.loads(cli("chat", "echo", "--json", piped="a\x1bb c").out)
    assert (answer["provider"], answer["model"], answer["response"]) == ("echo", "echo", "a\x1bb c")
    assert answer["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] > 0


def test_a_cut_answer_is_told_beside_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waifu_llm.cli.answer.MAX_TOKENS", 3)
    ran = cli("chat", "echo", "lorem", "--prompt", "x")
    assert len(ran.out.split()) == 3
    assert ran.err == "the answer was cut: it reached its greatest length\n"


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("nobody", "--prompt", "x"), 1, "there is no provider 'nobody'; there are: echo, openai"),
        (("echo", "no-such-model", "--prompt", "x"), 1, "no-such-model"),
        (("echo",), 2, "there is nothing to answer"),
        (("openai", "--prompt", "x"), 1, "run: waifu-llm keys set openai"),
    ],
)
def test_what_cannot_be_answered_is_one_line(cli: Cli, arguments: tuple[str, ...], code: int, part: str) -> None:
    ran = cli("chat", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert part in ran.err
    assert ran.err.count("\n") == 1


def test_json_is_for_one_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Keyboard())
    assert main(["chat", "echo", "--json"]) == 2
    assert "--json prints one answer" in capsys.readouterr().err


def test_models_are_printed_one_per_line(cli: Cli) -> None:
    assert cli("models", "echo").out == "echo\necho-slow\nlorem\n"
    answer = json.loads(cli("models", "echo", "--json").out)
    assert answer["models"] == ["echo", "echo-slow", "lorem"]
    assert answer["details"]["echo"]["kind"] == "chat"


def test_a_home_may_have_any_name(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_environments: SharedEnvironments
) -> None:
    home = tmp_path / "ho me" / "ü 日本 'quoted' $x"
    shared_environments.install(home, "echo")
    monkeypatch.setenv("WAIFU_LLM_HOME", str(home))
    assert cli("chat", "echo", "--prompt", "there").out == "there\n"


def test_a_home_that_cannot_be_made_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WAIFU_LLM_HOME", str(tmp_path / "file" / "below"))
    ran = cli("chat", "echo", "--prompt", "x")
    assert ran.code == 1
    assert ran.err.startswith("waifu-llm: the folder ")


def test_wrong_settings_are_wrong_usage_here_too(cli: Cli, home: Path) -> None:
    (home / "waifu-llm.toml").write_text("[sever]\n")
    ran = cli("chat", "echo", "--prompt", "x")
    assert ran.code == 2
    assert "line 1: there is no section [sever]; did you mean server?" in ran.err


def a_provider(models: Models) -> object:
    async def ask(context: Context, manifest: Manifest) -> Models:
        return models

    return ask


def test_a_list_that_may_not_be_read_or_is_empty_is_told_beside_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = "waifu_llm.cli.models_command._models"
    monkeypatch.setattr(asked, a_provider(Models((), {}, "the key may not list models")))
    ran = cli("models", "echo")
    assert (ran.code, ran.out, ran.err) == (0, "", "waifu-llm: warning: the key may not list models\n")
    monkeypatch.setattr(asked, a_provider(Models((), {})))
    assert cli("models", "echo").err == "echo lists no models\n"


def test_s24_names_from_a_provider_cannot_steer_the_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("good", "\x1b]0;title\x07\x1b[2Jbad", "two\nlines", "c1 \x9b31m", "over\rwritten")
    monkeypatch.setattr("waifu_llm.cli.models_command._models", a_provider(Models(names, {})))
    assert cli("models", "echo").out == "good\n]0;title[2Jbad\ntwo lines\nc1 31m\nover written\n"
    printed = cli("models", "echo", "--json").out
    assert not [character for character in printed if character != "\n" and ord(character) % 128 < 32]
    assert json.loads(printed)["models"] == list(names)


async def test_before_a_large_install_a_load_says_so_and_its_warning_is_passed_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class FakeClient:
        async def providers(self) -> Providers:
            return Providers(("huge",), {"huge": details})

        async def load(self, name: str, on_progress: Callable[[LoadProgress], object]) -> Loaded:
            for stage, detail in (("environment", "building"), ("worker", "starting"), ("model", "")):
                on_progress(LoadProgress(unique_request_id=1, stage=stage, detail=detail, fraction=0.5))
            return Loaded(name, "it is slow here")

    details = ProviderDetails(
        title="", description="", homepage="", category="local", installed=False, running=False,
        needs_api_key=False, has_api_key=False, abilities=[], options={},
    )  # fmt: skip
    found = Catalog.read().worker("echo")
    huge = replace(found, name="huge", declared=msgspec.structs.replace(found.declared, download_mb=2048))
    await load(Connected(cast(Client, FakeClient()), {}), huge)
    assert capsys.readouterr().err.splitlines() == [
        "huge is installed first: about 2.0 GiB to download (Ctrl-C stops it)",
        "huge: building",
        "huge: model",
        "waifu-llm: warning: it is slow here",
    ]
