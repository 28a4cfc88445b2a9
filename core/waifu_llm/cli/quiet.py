"""Logging of a command that runs a module of its own: to the file alone, since the terminal is for the answers."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from waifu_llm import log
from waifu_llm.cli.streams import Nowhere
from waifu_llm.redaction import Redactor


@contextlib.contextmanager
def log_to_file(folder: Path, level: str) -> Iterator[Redactor]:
    """While it lasts all logging goes to `<folder>/waifu-llm.log`; gives what takes secrets out of it."""
    root = logging.getLogger()
    before, level_before, raising = root.handlers[:], root.level, logging.raiseExceptions
    redactor = Redactor()
    log.set_up(folder, level, redactor, stream=Nowhere())
    try:
        yield redactor
    finally:
        log.flush()
        root.handlers[:] = before
        root.setLevel(level_before)
        logging.raiseExceptions = raising
