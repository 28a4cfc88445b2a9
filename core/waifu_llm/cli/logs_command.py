"""`waifu-llm logs NAME [-f]`."""

import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from waifu_llm.cli.context import Context
from waifu_llm.cli.text import printable
from waifu_llm.errors import ModuleError, UnknownProvider

MODULE: Final = "waifu-llm"
_LOOK_AGAIN_S: Final = 0.2
_PIECE: Final = 256 * 1024


def run(args: Namespace) -> int:
    """Print the log."""
    context = Context()
    if args.name != MODULE:
        _known(context, args.name)
    file = context.home.logs / f"{args.name}.log"
    if not args.follow and not file.exists():
        raise ModuleError(f"{args.name} has no log yet; it would be {file}")
    for piece in _follow(file) if args.follow else _pieces(file):
        sys.stdout.write(printable(piece))
        sys.stdout.flush()
    return 0


def _known(context: Context, name: str) -> None:
    names = [manifest.name for manifest in context.catalog.all()]
    if name not in names and not context.catalog.is_broken(name):
        raise UnknownProvider(f"there is no {name[:64]!r}; there are: {', '.join([*names, MODULE])}")


def _pieces(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8", errors="replace") as opened:
        while piece := opened.read(_PIECE):
            yield piece


def _follow(file: Path) -> Iterator[str]:
    """The whole log and all that comes; a full log is renamed and a new one begun under its name."""
    while True:
        try:
            opened = file.open(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            time.sleep(_LOOK_AGAIN_S)
            continue
        with opened:
            while True:
                if piece := opened.read(_PIECE):
                    yield piece
                elif _replaced(file, opened.fileno()):
                    break
                else:
                    time.sleep(_LOOK_AGAIN_S)


def _replaced(file: Path, descriptor: int) -> bool:
    try:
        return not os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return True
