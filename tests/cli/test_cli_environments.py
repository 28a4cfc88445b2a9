"""`install`, `list`, `update`, `uninstall` and `prune` on real environments, and what is asked before large ones."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import Cli
from support.stores import write_worker

from waifu_llm import catalog
from waifu_llm.cli import main

Install = Callable[..., None]


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of workers in place of the module's own."""
    folder = tmp_path / "workers"
    folder.mkdir()
    monkeypatch.setattr(catalog, "bundled_roots", lambda: (folder,))
    return folder


def states(cli: Cli) -> dict[str, str]:
    return {entry["name"]: entry["state"] for entry in json.loads(cli("list", "--json").out)}


def test_a_provider_is_installed_once_listed_and_uninstalled(cli: Cli, home: Path) -> None:
    ran = cli("install", "echo", "echo")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.count("echo is installed (") == 1
    assert cli("install", "echo").err == "echo is installed already\n"
    (row,) = [line.split() for line in cli("list").out.splitlines() if line.startswith("echo ")]
    assert row[1:3] == ["provider", "installed"]
    ran = cli("uninstall", "echo")
    assert ran.code == 0
    assert "are free again" in ran.err
    assert list((home / "envs").iterdir()) == []
    assert cli("uninstall", "echo").err == "echo is not installed\n"


def test_the_list_shows_what_each_provider_is_and_needs(cli: Cli, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    heads, *rows = cli("list").out.splitlines()
    assert heads.split() == ["NAME", "KIND", "STATE", "VERSION", "SIZE", "SHARED", "KEY", "TITLE"]
    (openai,) = [row for row in rows if row.startswith("openai ")]
    assert "not installed" in openai
    assert "needed" in openai
    monkeypatch.setenv("OPENAI_API_KEY", "sk-something")
    assert " set " in next(row for row in cli("list").out.splitlines() if row.startswith("openai "))
    assert not home.exists()


def test_the_json_list_has_what_a_provider_declares(cli: Cli, installed: Install) -> None:
    installed("echo")
    entries = {entry["name"]: entry for entry in json.loads(cli("list", "--json").out)}
    echo = entries["echo"]
    assert (echo["state"], echo["kind"], echo["default_model"], echo["has_key"]) == ("ready", "worker", "echo", False)
    assert echo["size_bytes"]["own"] + echo["size_bytes"]["shared"] > 0
    assert entries["openai"]["options"]["base_url"]["env"] == "OPENAI_BASE_URL"


def test_broken_and_outdated_environments_are_shown_and_rebuilt(cli: Cli, installed: Install, home: Path) -> None:
    installed("echo")
    (folder,) = (home / "envs").iterdir()
    shutil.rmtree(folder / "bin", ignore_errors=True)
    shutil.rmtree(folder / "Scripts", ignore_errors=True)
    assert states(cli)["echo"] == "broken"
    assert "echo is up to date (" in cli("update").err
    assert states(cli)["echo"] == "ready"
    folder.rename(folder.with_name("echo-0123456789abcdef"))
    assert states(cli)["echo"] == "stale"
    ran = cli("update", "echo")
    assert (ran.code, states(cli)["echo"]) == (0, "ready")
    assert "`waifu-llm prune` removes what the old ones leave" in ran.err
    assert "removed envs/echo-0123456789abcdef" in cli("prune").err
    assert [path.name for path in (home / "envs").iterdir()] == [folder.name]


def test_where_nothing_is_out_of_date_nothing_is_updated(cli: Cli, installed: Install) -> None:
    assert cli("update").err == "nothing is out of date\n"
    assert "`waifu-llm install echo` installs it" in cli("update", "echo").err
    installed("echo")
    assert cli("update", "echo").err == "nothing is out of date\n"


def test_nothing_to_prune_is_nothing_wrong(cli: Cli) -> None:
    ran = cli("prune")
    assert (ran.code, ran.err) == (0, "0 B became free\n")


def test_nothing_is_pruned_while_a_manifest_cannot_be_read(cli: Cli, workers: Path, home: Path) -> None:
    write_worker(workers, "tiny", "")
    (workers / "tiny" / "pyproject.toml").write_text("[project]\nversion = '1'\n")
    kept = home / "envs" / "tiny-0123456789abcdef"
    kept.mkdir(parents=True)
    assert cli("prune").code == 1
    assert kept.is_dir()
    assert "waifu-llm: warning: " in cli("list").err


@pytest.mark.parametrize("command", ["install", "uninstall", "update"])
def test_an_unknown_name_is_told_with_those_there_are(cli: Cli, command: str) -> None:
    ran = cli(command, "ehco")
    assert ran.code == 1
    assert "there is no 'ehco'; there are: echo, openai" in ran.err


def test_an_environment_of_a_provider_that_is_no_more_can_be_uninstalled(cli: Cli, home: Path) -> None:
    (home / "envs" / "former-0123456789abcdef").mkdir(parents=True)
    ran = cli("uninstall", "former")
    assert ran.code == 0
    assert list((home / "envs").iterdir()) == []


def test_a_provider_without_a_lock_is_broken_in_the_list_and_not_installed(cli: Cli, workers: Path) -> None:
    write_worker(workers, "tiny", "")
    (workers / "tiny" / "requirements.lock").unlink()
    (entry,) = json.loads(cli("list", "--json").out)
    assert entry["state"] == "broken"
    assert "has no list of packages" in entry["problem"]
    assert cli("install", "tiny").code == 1


def test_one_that_cannot_be_installed_does_not_keep_the_others_from_it(cli: Cli, workers: Path) -> None:
    write_worker(workers, "bad", "", provider="raise RuntimeError('it does not start')")
    write_worker(workers, "tiny", "", provider="raise RuntimeError('it does not start')")
    ran = cli("install", "bad", "tiny")
    assert ran.code == 1
    assert "waifu-llm: bad: " in ran.err
    assert "waifu-llm: tiny: " in ran.err


def test_why_an_install_failed_is_one_line_and_the_rest_is_in_the_log(cli: Cli, workers: Path, home: Path) -> None:
    """The log that the line names held nothing; all that uv or the worker had written stood above the line (#2)."""
    write_worker(workers, "bad", "", provider="raise RuntimeError('it does not start')")
    ran = cli("install", "bad")
    assert "Traceback" not in ran.err
    told = ran.err.splitlines()[-1]
    assert told.startswith("waifu-llm: bad: ")
    assert "waifu-llm.log has the rest" in told
    assert "Traceback" in (home / "logs" / "waifu-llm.log").read_text("utf-8")


# Large ones.


class Keyboard(io.StringIO):
    """A terminal at which this was typed."""

    def isatty(self) -> bool:
        return True


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", Keyboard(text))


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_a_large_download_is_asked_for_on_a_terminal(
    workers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, home: Path
) -> None:
    write_worker(workers, "huge", "", more="download_mb = 300")
    typed(monkeypatch, answer)
    assert main(["install", "huge"]) == 1
    captured = capsys.readouterr()
    assert "Go on? [y/N] " in captured.out
    assert "huge: about 300 MiB to download and " in captured.err
    assert "nothing was installed" in captured.err
    assert not (home / "envs").exists()


@pytest.mark.parametrize(("arguments", "typing"), [((), "y\n"), (("--yes",), "")])
def test_with_consent_a_large_download_begins(
    workers: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    typing: str,
) -> None:
    write_worker(workers, "huge", "", more="download_mb = 300", provider="raise RuntimeError('begun')")
    typed(monkeypatch, typing)
    assert main(["install", "huge", *arguments]) == 1
    assert "nothing was installed" not in capsys.readouterr().err


def test_without_a_terminal_a_large_download_is_told_and_begun(cli: Cli, workers: Path) -> None:
    write_worker(workers, "huge", "", more="download_mb = 300", provider="raise RuntimeError('begun')")
    ran = cli("install", "huge")
    assert "huge: about 300 MiB to download" in ran.err
    assert "nothing was installed" not in ran.err


def test_what_does_not_fit_on_the_disk_is_refused_before_it_begins(cli: Cli, workers: Path, home: Path) -> None:
    for name in ("vast", "huge"):
        write_worker(workers, name, "", more="download_mb = 3e10")
    assert cli("install", "vast", "--yes").code == 1
    assert not (home / "envs").exists()


def test_what_fits_alone_but_not_together_is_refused(
    cli: Cli, workers: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    from waifu_llm.environment.model import Estimate
    from waifu_llm.environment.store import EnvironmentStore

    monkeypatch.setattr(EnvironmentStore, "estimate", lambda store, manifest: Estimate(10.0, 600, 1000))
    for name in ("one", "two"):
        write_worker(workers, name, "")
    ran = cli("install", "one", "two")
    assert ran.code == 1
    assert "together they need about 1.2 KiB, and 1000 B are free" in ran.err
