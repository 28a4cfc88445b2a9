"""There is one version: in pyproject.toml, in the package and at the top of the changelog."""

import re
import tomllib
from pathlib import Path

import waifu_llm

ROOT = Path(__file__).resolve().parent.parent


def test_project_package_and_changelog_name_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert project == waifu_llm.__version__ == newest[1]


def test_every_entry_of_the_changelog_has_its_three_parts() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    for entry in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        assert re.findall(r"^### (.+)$", entry, re.MULTILINE) == ["Features", "Fixes", "Breaking"]
