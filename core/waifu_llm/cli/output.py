"""What is printed: data on stdout, everything else on stderr."""

import sys

from waifu_llm.cli.text import escaped, one_line, printable


def say(text: str = "") -> None:
    """What was asked for, a line or several; names and words from elsewhere may be in it."""
    # In one piece: unbuffered, `print` lets another thread in before the end of the line.
    sys.stdout.write(f"{printable(text)}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line beside it: progress, warnings, what was done."""
    print(one_line(text), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Something unwise."""
    note(f"waifu-llm: warning: {text}")


def say_json(value: object) -> None:
    """What was asked for, for programs: one JSON value."""
    import msgspec  # late: `--version` says a line

    print(escaped(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()), flush=True)
