"""The token that clients must send: from WAIFU_LLM_TOKEN or a file, never from argv, which everybody can read."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from waifu_llm.errors import UsageError

VARIABLE: Final = "WAIFU_LLM_TOKEN"
_TOKEN: Final = re.compile(r"[!-~]+\Z")
_LONGEST: Final = 4096
_SHORTEST_WISE: Final = 16


def read_token(environ: Mapping[str, str], token_file: str | None) -> tuple[str | None, tuple[str, ...]]:
    """The token, or None where none is configured, and warnings. Raises: UsageError."""
    warnings: tuple[str, ...] = ()
    if environ.get(VARIABLE):
        token, source = environ[VARIABLE].strip(), f"the variable {VARIABLE}"
    elif token_file is not None:
        token, source = _from_file(Path(token_file)), f"the token file {token_file}"
        warnings = _mode_warning(Path(token_file))
    else:
        return None, ()
    if not _TOKEN.match(token) or len(token) > _LONGEST:
        raise UsageError(f"{source} holds no usable token: printable ASCII without blanks, one line, is needed")
    if len(token) < _SHORTEST_WISE:
        warnings += (f"{source} holds a token that can be guessed; {_SHORTEST_WISE} characters or more are wise",)
    return token, warnings


def _from_file(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_LONGEST + 2).decode("utf-8", "replace").strip()
    except OSError as error:
        raise UsageError(f"the token file {file} cannot be read: {error.strerror or error}") from error


def _mode_warning(file: Path) -> tuple[str, ...]:
    if os.name == "nt" or not stat.S_IMODE(file.stat().st_mode) & 0o077:
        return ()
    return (f"the token file {file} can be read by other users; run: chmod 600 {file}",)
