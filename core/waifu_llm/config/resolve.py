"""Where each setting comes from: flag > environment > file > default. A wrong one is a sentence that says where."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from waifu_llm.catalog import Catalog
from waifu_llm.config.check import Problem, check_named_section, check_sections, check_value, nearest
from waifu_llm.config.lines import line_of
from waifu_llm.config.settings import NAMED_SECTIONS, PATHS, SECTIONS, Settings
from waifu_llm.config.token import read_token
from waifu_llm.errors import UsageError
from waifu_llm.paths import Home

Flags: TypeAlias = Mapping[tuple[str, str], object]

_PREFIX: Final = "WAIFU_LLM_"
_VARIABLES: Final = {
    f"{_PREFIX}{section}_{key}".upper(): (section, key)
    for section, struct in SECTIONS.items()
    for key in struct.__struct_fields__
}
_FLAGS: Final = {("log", "level"): "log_level"}
_OTHER_VARIABLES: Final = ("WAIFU_LLM_HOME", "WAIFU_LLM_TOKEN", "WAIFU_LLM_RUN")
_SYNTAX_LINE: Final = re.compile(r"^(.*) \(at line (\d+), column \d+\)$", re.DOTALL)
_BOOLEANS: Final = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False} | {
    "no": False,
    "off": False,
}


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings of a run, and sentences about what is unwise in them."""

    settings: Settings
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Sources:
    file: dict[str, dict[str, object]]
    environ: dict[tuple[str, str], object]
    flags: Flags


def resolve(
    home: Home, environ: Mapping[str, str], flags: Flags | None = None, catalog: Catalog | None = None
) -> Resolved:
    """Settle everything once. `flags`: those that were given, by section and key, with relative paths as typed.

    With a catalog the tables of providers and gateways are checked against their manifests too.
    Raises: UsageError, one sentence that names the file and the line, the variable or the flag.
    """
    file = home.config_file
    sources = _Sources(_read_file(file, catalog), _read_environ(environ), flags or {})
    for (section, key), value in sources.flags.items():
        if (problem := check_value(section, key, value)) is not None:
            raise UsageError(f"--{_FLAGS.get((section, key), key).replace('_', '-')}: {problem}")
    sections: dict[str, Any] = {
        name: msgspec.convert(_merged(name, sources, home.root), struct) for name, struct in SECTIONS.items()
    }
    server = sections["server"]
    if (server.tls_cert is None) != (server.tls_key is None):
        raise UsageError("tls_cert and tls_key belong together: set both or neither")
    token, warnings = read_token(environ, server.token_file)
    named: dict[str, Any] = {name: sources.file.get(name, {}) for name in NAMED_SECTIONS}
    return Resolved(Settings(**sections, **named, token=token), warnings)


def _merged(section: str, sources: _Sources, root: Path) -> dict[str, object]:
    merged: dict[str, object] = {}
    for key in SECTIONS[section].__struct_fields__:
        path = (section, key)
        if path in sources.flags:
            merged[key] = _located(path, sources.flags[path], Path.cwd())
        elif path in sources.environ:
            merged[key] = _located(path, sources.environ[path], Path.cwd())
        elif key in sources.file.get(section, {}):
            merged[key] = _located(path, sources.file[section][key], root)
    return merged


def _located(path: tuple[str, str], value: object, base: Path) -> object:
    """An empty text is how a file says none."""
    if value == "":
        return None
    if path not in PATHS or not isinstance(value, str) or "://" in value:
        return value
    return str(base / Path(value).expanduser())


def _read_file(file: Path, catalog: Catalog | None) -> dict[str, dict[str, object]]:
    try:
        text = file.read_text("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text") from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(_syntax_sentence(file, text, str(error))) from error
    problem = check_sections(table) or next(
        filter(None, (check_named_section(table, n, catalog) for n in NAMED_SECTIONS)), None
    )
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


def _read_environ(environ: Mapping[str, str]) -> dict[tuple[str, str], object]:
    """An empty variable counts as none, as it does where a service manager hands out variables that nobody filled."""
    values: dict[tuple[str, str], object] = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(_PREFIX) or not text:
            continue
        path = _VARIABLES.get(variable)
        if path is None:
            _refuse_unknown(variable)
            continue
        values[path] = _from_text(path, text)
        if (problem := check_value(*path, values[path])) is not None:
            raise UsageError(f"the variable {variable}: {problem}")
    return values


def _from_text(path: tuple[str, str], text: str) -> object:
    """The text of a variable as the TOML value it stands for; what does not fit stays text and is then refused."""
    default = getattr(SECTIONS[path[0]](), path[1])
    match default:
        case bool():
            return _BOOLEANS.get(text.strip().lower(), text)
        case int() | float():
            return _number(text, type(default))
        case tuple():
            return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _number(text: str, kind: type[int] | type[float]) -> object:
    try:
        return kind(text)
    except ValueError:
        return text


def _refuse_unknown(variable: str) -> None:
    """A variable of ours that nothing reads is a mistake; one that only begins alike may be somebody else's."""
    if variable in _OTHER_VARIABLES:
        return
    suggestion = nearest(variable, (*_VARIABLES, *_OTHER_VARIABLES), cutoff=0.85)
    section = variable.removeprefix(_PREFIX).split("_")[0].lower()
    if section in NAMED_SECTIONS:
        raise UsageError(f"the variable {variable} is not read: options of a {section} are set in waifu-llm.toml")
    if section in SECTIONS or suggestion:
        raise UsageError(f"there is no setting for the variable {variable}{suggestion}")


def flags_from(section: str, given: Mapping[str, object], keys: Sequence[str]) -> dict[tuple[str, str], object]:
    """The flags of `keys` that were given on the command line (those that are not None)."""
    return {(section, key): given[key] for key in keys if given.get(key) is not None}
