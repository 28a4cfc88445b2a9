"""`[provider.NAME]` and `[gateway.NAME]` settled: the command line > an option's own variable > the file > default."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from waifu_llm.catalog import Catalog, Option
from waifu_llm.config.check import nearest
from waifu_llm.config.check_options import (
    TEXTS,
    check_key,
    check_name,
    check_option,
    is_secret,
    options_of,
    way_of_secrets,
)
from waifu_llm.config.settings import NAMED_SECTIONS
from waifu_llm.config.values import option_from_text
from waifu_llm.errors import UsageError
from waifu_llm.paths import absolute

_FORM: Final = "--set takes provider.NAME.KEY=VALUE or gateway.NAME.KEY=VALUE"

_Table: TypeAlias = dict[str, Any]
_Named: TypeAlias = dict[str, _Table]


class TableFlags(msgspec.Struct, frozen=True):
    """What the command line says about tables: gateways to start, and texts of the form `gateway.NAME.KEY=VALUE`."""

    gateways: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()


class Tables(msgspec.Struct, frozen=True):
    """The tables by name, as `Settings` has them, and sentences about what is unwise in them."""

    provider: _Named = msgspec.field(default_factory=dict)
    given: _Named = msgspec.field(default_factory=dict)
    gateway: _Named = msgspec.field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def settle_tables(
    file: Mapping[str, _Named], root: Path, environ: Mapping[str, str], flags: TableFlags, catalog: Catalog
) -> Tables:
    """All in one. `file`: the checked config file; paths in it count from `root`, others from the current folder.

    A variable of a provider's option is read with each load. Raises: UsageError; BrokenManifest.
    """
    chosen: dict[str, _Named] = {kind: {} for kind in NAMED_SECTIONS}
    for text in flags.assignments:
        kind, name, key, value = _assignment(text, catalog)
        chosen[kind].setdefault(name, {})[key] = value
    for name in flags.gateways:
        _check_gateway(name, catalog)
        chosen["gateway"].setdefault(name, {})["enabled"] = True
    provider = {n: _from_file("provider", n, table, root, catalog) for n, table in file.get("provider", {}).items()}
    gateway = {n: _from_file("gateway", n, table, root, catalog) for n, table in file.get("gateway", {}).items()}
    for name in {**gateway, **chosen["gateway"]}:
        gateway[name] = _merged(name, gateway.get(name, {}), chosen["gateway"].get(name, {}), environ, catalog)
    return Tables(
        {name: table for name, table in provider.items() if table},
        chosen["provider"],
        {name: table for name, table in gateway.items() if table},
        tuple(
            f"--set gateway.{name}.…: the gateway {name} is not started in this run; --gateway {name} starts it"
            for name in chosen["gateway"]
            if not gateway[name].get("enabled")
        ),
    )


def _assignment(text: str, catalog: Catalog) -> tuple[str, str, str, object]:
    """Kind, name, key and value; None as the value: the default holds. What may be a secret is not quoted."""
    path, equals, value = text.partition("=")
    flag = f"--set {path}"
    parts = path.split(".")
    if not equals:
        raise UsageError(f"{flag}: there is no value; {_FORM}")
    if parts[0] not in NAMED_SECTIONS or len(parts) != 3:
        raise UsageError(f"{flag}: there is no such option{nearest(parts[0], NAMED_SECTIONS)}; {_FORM}")
    kind, name, key = parts
    if is_secret(key):
        raise UsageError(
            f"{flag}: all users of this machine can read arguments, so no secret is taken from them; "
            f"{way_of_secrets(kind, name)}"
        )
    if (wrong := check_name(kind, name, catalog)) is not None:
        raise UsageError(f"{flag}: {wrong}")
    options = options_of(kind, catalog.find(name).declared)
    if (wrong := check_key(kind, name, key, options)) is not None:
        raise UsageError(f"{flag}: {wrong}")
    return kind, name, key, _from_text(flag, options[key], value)


def _from_text(source: str, option: Option, text: str) -> object:
    value = option_from_text(option.type, text)
    if (wrong := check_option(option, value)) is not None:
        raise UsageError(f"{source}: {wrong}")
    return _settled(option, value, Path.cwd())


def _check_gateway(name: str, catalog: Catalog) -> None:
    if not catalog.has("gateway", name) and not catalog.is_broken(name):
        known = [manifest.name for manifest in catalog.gateways()]
        is_provider = catalog.has("worker", name)
        what = f"{name[:64]} is a provider, not a gateway" if is_provider else f"there is no gateway {name[:64]!r}"
        there = ", ".join(known) or "none"
        raise UsageError(f"--gateway: {what}; there are: {there}{nearest(name, known)}")
    catalog.find(name)


def _from_file(kind: str, name: str, table: _Table, root: Path, catalog: Catalog) -> _Table:
    if catalog.is_broken(name):
        return table
    options = options_of(kind, catalog.find(name).declared)
    settled = {key: _settled(options[key], value, root) for key, value in table.items()}
    return {key: value for key, value in settled.items() if value is not None}


def _merged(name: str, file: _Table, chosen: _Table, environ: Mapping[str, str], catalog: Catalog) -> _Table:
    merged = {**file, **chosen}
    if merged.get("enabled") and not catalog.is_broken(name):
        variables = {
            key: _from_text(f"the variable {option.env}", option, environ[option.env])
            for key, option in catalog.find(name).declared.options.items()
            if option.env and environ.get(option.env)
        }
        merged = {**file, **variables, **chosen}
    return {key: value for key, value in merged.items() if value is not None}


def _settled(option: Option, value: object, base: Path) -> object:
    """A checked value with its paths absolute; None for an empty text, which says that the default holds."""
    if value == "" and option.type in TEXTS:
        return None
    match option.type, value:
        case "path", str():
            return absolute(value, base)
        case "paths", list():
            return [absolute(path, base) for path in value if path]
    return value
