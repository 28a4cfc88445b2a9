"""The browser of the playground's tests is installed where that needs nobody's leave, and missed aloud elsewhere."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from support import browser as tests_browser

Prepare = Callable[..., str | None]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> Prepare:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    found: Prepare = importlib.import_module("browser").prepare_browser
    return found


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Root on a Debian."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    release = tmp_path / "os-release"
    release.write_text('NAME="Debian GNU/Linux"\nID=debian\n', "utf-8")
    return release


class Apt:
    """What was run; `error` is how each ends."""

    def __init__(self, error: str | None = None) -> None:
        self.ran: list[str] = []
        self._error = error

    def __call__(self, argv: Sequence[str]) -> str | None:
        self.ran.append(" ".join(argv))
        return self._error


def finds(*found: str | None) -> Callable[[], str | None]:
    left: Iterator[str | None] = iter(found)
    return lambda: next(left)


def test_the_tests_look_for_the_browsers_that_the_set_up_looks_for(prepare: Prepare) -> None:
    assert importlib.import_module("browser").NAMES == tests_browser.NAMES


def test_where_there_is_a_browser_nothing_is_installed(prepare: Prepare, debian: Path) -> None:
    apt = Apt()
    assert prepare(apt, finds("/usr/bin/chromium"), debian) is None
    assert apt.ran == []


def test_on_debian_root_gets_chromium_and_nothing_recommended(prepare: Prepare, debian: Path) -> None:
    apt = Apt()
    assert prepare(apt, finds(None, "/usr/bin/chromium"), debian) is None
    assert apt.ran[0].startswith("apt-get update")
    assert apt.ran[1].startswith("apt-get install") and apt.ran[1].endswith("--no-install-recommends chromium")


def test_an_install_that_fails_says_why_and_what_is_left_out(prepare: Prepare, debian: Path) -> None:
    problem = prepare(Apt("no route to the mirror"), finds(None, None), debian)
    assert problem is not None
    assert "no route to the mirror" in problem
    assert "skipped" in problem


def test_an_install_that_brings_no_program_is_told(prepare: Prepare, debian: Path) -> None:
    problem = prepare(Apt(), finds(None, None), debian)
    assert problem is not None
    assert "PATH" in problem


@pytest.mark.parametrize("change", ["a user", "another system", "no release file", "another platform"])
def test_elsewhere_nothing_is_installed_unasked(
    prepare: Prepare, debian: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    match change:
        case "a user":
            monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
        case "another system":
            debian.write_text("ID=ubuntu\nID_LIKE=debian\n", "utf-8")
        case "no release file":
            debian.unlink()
        case _:
            monkeypatch.setattr(sys, "platform", "darwin")
    apt = Apt()
    problem = prepare(apt, finds(None), debian)
    assert problem is not None
    assert "there is no browser" in problem
    assert apt.ran == []
