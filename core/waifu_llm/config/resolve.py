"""Where each setting comes from: flag > environment > file > default. A wrong one is a sentence that says where."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from waifu_llm.catalog import Catalog
from waifu_llm.config.check import check_value
from waifu_llm.config.check_options import check_prewarmed
from waifu_llm.config.file import read_file
from waifu_llm.config.settings import PATHS, SECTIONS, Settings
from waifu_llm.config.tables import TableFlags, Tables, settle_tables
from waifu_llm.config.token import read_token
from waifu_llm.config.variables import read_variables
from waifu_llm.errors import UsageError
from waifu_llm.paths import Home, absolute

Flags: TypeAlias = Mapping[tuple[str, str], object]

_FLAGS: Final = {("log", "level"): "log_level"}


class Resolved(msgspec.Struct, frozen=True):
    """The settings of a run, and sentences about what is unwise in them."""

    settings: Settings
    warnings: tuple[str, ...] = ()


class _Sources(msgspec.Struct, frozen=True):
    file: dict[str, dict[str, Any]]
    environ: dict[tuple[str, str], object]
    flags: Flags


def resolve(
    home: Home,
    environ: Mapping[str, str],
    flags: Flags | None = None,
    catalog: Catalog | None = None,
    table_flags: TableFlags | None = None,
) -> Resolved:
    """Settle everything once. `flags`: those that were given, by section and key, with relative paths as typed.

    With a catalog the tables of providers and gateways are checked against their manifests too, and their paths made
    absolute, and who is prewarmed must be a provider; `table_flags` need one.
    Raises: UsageError, one sentence that names the file and the line, the variable or the flag.
    """
    sources = _Sources(read_file(home.config_file, catalog), read_variables(environ), flags or {})
    for (section, key), value in sources.flags.items():
        if (problem := check_value(section, key, value)) is not None:
            raise UsageError(f"--{_FLAGS.get((section, key), key).replace('_', '-')}: {problem}")
    for where, given in (("--prewarm", sources.flags), ("the variable WAIFU_LLM_WORKERS_PREWARM", sources.environ)):
        names = given.get(("workers", "prewarm"), ())
        assert isinstance(names, tuple | list)
        if (problem := check_prewarmed(names, catalog)) is not None:
            raise UsageError(f"{where}: {problem}")
    sections: dict[str, Any] = {
        name: msgspec.convert(_merged(name, sources, home.root), struct) for name, struct in SECTIONS.items()
    }
    server = sections["server"]
    if (server.tls_cert is None) != (server.tls_key is None):
        raise UsageError("tls_cert and tls_key belong together: set both or neither")
    token, warnings = read_token(environ, server.token_file)
    tables = Tables(provider=sources.file.get("provider", {}), gateway=sources.file.get("gateway", {}))
    if catalog is not None:
        tables = settle_tables(sources.file, home.root, environ, table_flags or TableFlags(), catalog)
    settings = Settings(**sections, provider=tables.provider, given=tables.given, gateway=tables.gateway, token=token)
    return Resolved(settings, warnings + tables.warnings)


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
    return absolute(value, base)


def flags_from(section: str, given: Mapping[str, object], keys: Sequence[str]) -> dict[tuple[str, str], object]:
    """The flags of `keys` that were given on the command line (those that are not None)."""
    return {(section, key): given[key] for key in keys if given.get(key) is not None}
