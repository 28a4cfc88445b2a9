"""What SECURITY.md promises by name is there by that name."""

import re
from pathlib import Path

import pytest
from support.command_line import Cli

from waifu_llm.config.settings import SECTIONS
from waifu_llm.environment import startup, uv

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "SECURITY.md").read_text("utf-8")
NAMES = re.findall(r"`([^`\n]+)`", PAGE)


def test_every_setting_it_names_exists() -> None:
    settings = [name.split(".") for name in NAMES if re.fullmatch(r"[a-z]+\.[a-z_]+", name) and name not in _FILES]
    assert len(settings) >= 8
    missing = [[section, key] for section, key in settings if key not in SECTIONS[section].__struct_fields__]
    assert missing == []
    sections = [name[1:-1] for name in NAMES if re.fullmatch(r"\[[a-z]+\]", name)]
    assert sections and set(sections) <= SECTIONS.keys()


_FILES = {"keys.json", "pyvenv.cfg"}


def test_every_flag_it_names_is_used() -> None:
    flags = {name for name in NAMES if name.startswith("--")}
    programs = "".join(uv.sync_command("uv", Path("python"), Path("lock"), offline=False))
    programs += (ROOT / "scripts" / "lock.py").read_text("utf-8")
    assert flags and all(flag in programs for flag in flags)


def test_every_file_of_ours_it_names_exists() -> None:
    files = [name for name in NAMES if re.fullmatch(r"[a-z]+/[a-z_/]+\.[a-z]+", name)]
    assert files == ["scripts/lock.py"]
    assert all((ROOT / name).exists() for name in files)
    assert "](" not in PAGE, "a link would want a test that it leads somewhere"


def test_the_commands_and_variables_it_names_exist(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = [name for name in NAMES if name.startswith("waifu-llm ")]
    assert Cli(capsys, monkeypatch)(*command.split()[1:]).code == 0
    (variable,) = {name for name in NAMES if name.startswith("WAIFU_LLM_")}
    assert variable in (ROOT / "docs" / "operations.md").read_text("utf-8")


def test_what_it_says_of_installs_is_what_is_checked() -> None:
    assert f"before {'.'.join(map(str, uv.OLDEST))}" in PAGE
    for suffix in startup._SUFFIXES:
        assert f"`{suffix}`" in PAGE
    for module in startup._MODULES:
        assert f"`{module}`" in PAGE


def test_it_is_a_page() -> None:
    assert len(PAGE.split()) < 1000
