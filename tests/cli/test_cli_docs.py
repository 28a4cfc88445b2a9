"""The pages that are made from the program are what it says now."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "command_line_docs.py"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "path", sys.path[:])
    return runpy.run_path(str(SCRIPT))


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="argparse writes its help in another form there")
def test_the_page_of_the_command_line_is_what_the_program_says(made: dict[str, Any]) -> None:
    assert made["CLI"].read_text("utf-8") == made["cli_page"](), "run: python scripts/command_line_docs.py"


def test_the_settings_of_the_operations_page_are_those_there_are(made: dict[str, Any]) -> None:
    page = made["OPERATIONS"].read_text("utf-8")
    assert page == made["with_settings"](page), "run: python scripts/command_line_docs.py"
