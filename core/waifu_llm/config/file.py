"""The config file as it is read: its tables, checked, or one sentence that says where it is wrong."""

import re
from pathlib import Path
from typing import Any, Final

from waifu_llm.catalog import Catalog
from waifu_llm.config.check import Problem, check_sections
from waifu_llm.config.check_options import check_named_section, check_prewarmed
from waifu_llm.config.lines import line_of
from waifu_llm.config.settings import NAMED_SECTIONS
from waifu_llm.errors import UsageError

_SYNTAX_LINE: Final = re.compile(r"^(.*) \(at line (\d+), column \d+\)$", re.DOTALL)


def read_file(file: Path, catalog: Catalog | None) -> dict[str, dict[str, Any]]:
    """Its sections; empty where there is none. With a catalog NAMES, their tables and who is prewarmed are checked too.

    Raises: UsageError.
    """
    try:
        text = file.read_text("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text") from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error
    import tomllib  # late: most homes have no such file

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(_syntax_sentence(file, text, str(error))) from error
    problem = check_sections(table) or next(
        filter(None, (check_named_section(table, n, catalog) for n in NAMED_SECTIONS)), None
    )
    if problem is None and (wrong := check_prewarmed(table.get("workers", {}).get("prewarm", ()), catalog)) is not None:
        problem = Problem(("workers", "prewarm"), f"prewarm: {wrong}")
    if problem is not None:
        raise UsageError(_sentence(file, text, problem))
    return table


def _sentence(file: Path, text: str, problem: Problem) -> str:
    line = line_of(text, problem.path)
    where = f"{file}, line {line}" if line is not None else str(file)
    return f"{where}: {problem.message}"


def _syntax_sentence(file: Path, text: str, message: str) -> str:
    """tomllib says where only inside its message, and for a file that ends too early not even there."""
    found = _SYNTAX_LINE.match(message)
    if found is None:
        return f"{file}, line {len(text.rstrip().splitlines())}: {message}"
    return f"{file}, line {found[2]}: {found[1]}"
