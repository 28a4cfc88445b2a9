#!/usr/bin/env python3
"""Writes docs/cli.md, and the settings within docs/operations.md, from the program itself; a test compares them."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import bootstrap  # noqa: E402

bootstrap.go_on_with_project()

from waifu_llm.catalog import Catalog  # noqa: E402
from waifu_llm.cli.parser import COMMANDS, command_parser, main_parser  # noqa: E402
from waifu_llm.config.example import example_text  # noqa: E402

CLI = ROOT / "docs" / "cli.md"
OPERATIONS = ROOT / "docs" / "operations.md"
BEGIN, END = "<!-- settings: made by scripts/command_line_docs.py -->\n", "<!-- end of settings -->\n"


def cli_page() -> str:
    """The help of every command as one page."""
    parts = ["# The command line\n\nMade from `--help` by `python3 scripts/command_line_docs.py`; do not edit.\n"]
    parts.append(f"\n```text\n{main_parser().format_help()}```\n")
    for name in COMMANDS:
        parts.append(f"\n## waifu-llm {name}\n\n```text\n{command_parser(name).format_help()}```\n")
    return "".join(parts)


def with_settings(page: str) -> str:
    """`page` with the commented config file between its two marks."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    gateways = Catalog.read((ROOT / "workers", ROOT / "gateways")).gateways()
    return f"{head}{BEGIN}```toml\n{example_text(gateways)}```\n{END}{tail}"


def main() -> None:
    """Write both."""
    CLI.write_text(cli_page(), "utf-8")
    OPERATIONS.write_text(with_settings(OPERATIONS.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
