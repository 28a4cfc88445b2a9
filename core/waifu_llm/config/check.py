"""What may stand in the config file: unknown names and wrong values become sentences. Pure."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from waifu_llm.catalog import Catalog, Option, OptionType
from waifu_llm.config.settings import NAMED_SECTIONS, SECTIONS, Host, LogLevel, Port, Positive, Seconds

_EXPECTED: Final[dict[object, str]] = {
    bool: "true or false",
    Host: "an address or a name",
    str | None: "a text",
    tuple[str, ...]: "a list of texts",
    Port: "a port, a whole number from 0 to 65535",
    Positive: "a whole number from 1",
    Seconds: "seconds, a number over 0",
    LogLevel: "debug, info, warning or error",
}
_OPTION_TYPES: Final[dict[OptionType, tuple[Any, str]]] = {
    "string": (str, "a text"),
    "url": (str, "a URL such as https://host/v1"),
    "host": (str, "an address"),
    "integer": (int, "a whole number"),
    "number": (float, "a number"),
    "boolean": (bool, "true or false"),
    "list": (list[str], "a list of texts"),
    "path": (str, "a path"),
    "paths": (list[str], "a list of paths"),
}
_KEY_NAMES: Final = frozenset({"api_key", "apikey", "key", "token", "secret", "password"})


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and at which key of the file."""

    path: tuple[str, ...]
    message: str


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a sentence that suggests the known name closest to `name`, or "" where none is close."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {found[0]}?" if found else ""


def check_value(section: str, key: str, value: object) -> str | None:
    """What is wrong with a value of a known key, or None."""
    field = next(f for f in msgspec.structs.fields(SECTIONS[section]) if f.name == key)
    try:
        msgspec.convert(value, field.type)
    except msgspec.ValidationError:
        return f"{_shown(value)} is not {_EXPECTED[field.type]}"
    return None


def check_sections(table: Mapping[str, object]) -> Problem | None:
    """The first problem with the names of the sections, or with the keys and values of the plain ones."""
    for section, content in table.items():
        if section not in SECTIONS and section not in NAMED_SECTIONS:
            hint = nearest(section, (*SECTIONS, *NAMED_SECTIONS))
            return Problem((section,), f"there is no section [{section}]{hint}")
        if not isinstance(content, dict):
            return Problem((section,), f"{section} must be a section of its own, [{section}]")
        problem = _check_section(section, content) if section in SECTIONS else None
        if problem is not None:
            return problem
    return None


def _check_section(section: str, content: Mapping[str, object]) -> Problem | None:
    known = SECTIONS[section].__struct_fields__
    for key, value in content.items():
        if key not in known:
            return Problem((section, key), f"[{section}] has no key {key}{nearest(key, known)}")
        wrong = check_value(section, key, value)
        if wrong is not None:
            return Problem((section, key), f"{key}: {wrong}")
    return None


def check_named_section(table: Mapping[str, Any], kind: str, catalog: Catalog | None) -> Problem | None:
    """The first problem within `[provider.NAME]` or `[gateway.NAME]`; a catalog is needed for names and options."""
    for name, content in table.get(kind, {}).items():
        path = (kind, name)
        if not isinstance(content, dict):
            return Problem(path, f"{kind}.{name} must be a section of its own, [{kind}.NAME]")
        problem = _check_secrets(name, content) if kind == "provider" else None
        problem = problem or (_check_declared(kind, name, content, catalog) if catalog is not None else None)
        if problem is not None:
            return problem
    return None


def _check_secrets(provider: str, content: Mapping[str, object]) -> Problem | None:
    for key in content:
        if key.lower().replace("-", "_") in _KEY_NAMES:
            sentence = f"keys do not belong in this file; run `waifu-llm keys set {provider}` and remove {key}"
            return Problem(("provider", provider, key), sentence)
    return None


def _check_declared(kind: str, name: str, content: Mapping[str, object], catalog: Catalog) -> Problem | None:
    if name in catalog.broken:
        return None
    wanted = "worker" if kind == "provider" else "gateway"
    manifests = {m.name: m.declared for m in catalog.all() if m.declared.kind == wanted}
    if name not in manifests:
        return Problem((kind, name), f"there is no {kind} {name}{nearest(name, manifests)}")
    options = manifests[name].options
    if kind == "gateway":
        options = {"enabled": Option("boolean", "Whether it is started."), **options}
    for key, value in content.items():
        if key not in options:
            hint = nearest(key, options) or f"; it has: {', '.join(options) or 'none'}"
            return Problem((kind, name, key), f"[{kind}.{name}] has no option {key}{hint}")
        wrong = _check_option(options[key], value)
        if wrong is not None:
            return Problem((kind, name, key), f"{key}: {wrong}")
    return None


def _check_option(option: Option, value: object) -> str | None:
    kind, expected = _OPTION_TYPES[option.type]
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return f"{_shown(value)} is not {expected}"
    if option.type == "url" and not _is_url(str(value)):
        return f"{_shown(value)} is not {expected}"
    if option.choices and value not in option.choices:
        return f"{_shown(value)} is not one of {', '.join(option.choices)}"
    return None


def _is_url(text: str) -> bool:
    """As far as it can be told from the form; what it may name is decided by each load."""
    try:
        url = urlsplit(text.strip())
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and bool(url.hostname)


def _shown(value: object) -> str:
    shown = "true" if value is True else "false" if value is False else repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "…"
