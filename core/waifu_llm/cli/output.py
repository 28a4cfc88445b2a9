"""What is printed: data on stdout, everything else on stderr."""

import sys

import msgspec

from waifu_llm.cli.text import one_line


def say(text: str = "") -> None:
    """A line of what was asked for."""
    print(text, flush=True)


def note(text: str) -> None:
    """A line beside it: progress, warnings, what was done."""
    print(one_line(text), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Something unwise."""
    note(f"waifu-llm: warning: {text}")


def say_json(value: object) -> None:
    """What was asked for, for programs: one JSON value."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode(), flush=True)
