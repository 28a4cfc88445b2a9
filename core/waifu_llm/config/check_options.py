"""What may stand in `[provider.NAME]` and `[gateway.NAME]`: their manifests say it. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from waifu_llm.catalog import Catalog, Declaration, Option, OptionType
from waifu_llm.config.check import Problem, nearest, shown
from waifu_llm.config.values import OPTION_TYPES

ENABLED: Final = Option("boolean", "Whether `waifu-llm serve` starts it; `--gateway` does it for one run", False)
SECRET_NAMES: Final = frozenset({"api_key", "apikey", "key", "token", "secret", "password"})
# Where "" means: as if nothing were said.
TEXTS: Final[frozenset[OptionType]] = frozenset({"string", "url", "host", "path"})

_EXPECTED: Final[dict[OptionType, str]] = {
    "string": "a text",
    "url": "a URL such as https://host/v1",
    "host": "an address",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "list": "a list of texts",
    "path": "a path",
    "paths": "a list of paths",
}


def options_of(kind: str, declared: Declaration) -> dict[str, Option]:
    """The keys that the table of this provider or gateway may have."""
    return {"enabled": ENABLED, **declared.options} if kind == "gateway" else declared.options


def is_secret(key: str) -> bool:
    """Whether a value under this name would be a secret, which belongs neither in a file that is shown nor in argv."""
    return key.lower().replace("-", "_") in SECRET_NAMES


def way_of_secrets(kind: str, name: str) -> str:
    """The end of a sentence: where the secret of this provider or gateway goes instead."""
    if kind == "provider":
        return f"run `waifu-llm keys set {name}`"
    return "write it into a file that only you can read and name that with token_file"


def check_named_section(table: Mapping[str, Any], kind: str, catalog: Catalog | None) -> Problem | None:
    """The first problem within `[provider.NAME]` or `[gateway.NAME]`; a catalog is needed for names and options."""
    for name, content in table.get(kind, {}).items():
        path = (kind, name)
        if not isinstance(content, dict):
            return Problem(path, f"{kind}.{name} must be a section of its own, [{kind}.NAME]")
        problem = _check_secrets(kind, name, content)
        problem = problem or (_check_declared(kind, name, content, catalog) if catalog is not None else None)
        if problem is not None:
            return problem
    return None


def check_name(kind: str, name: str, catalog: Catalog) -> str | None:
    """What is wrong with the name of a provider or gateway, or None; a broken one is not looked at further."""
    if catalog.has("worker" if kind == "provider" else "gateway", name) or catalog.is_broken(name):
        return None
    if catalog.has("gateway" if kind == "provider" else "worker", name):
        return f"{name} is a {'gateway' if kind == 'provider' else 'provider'}, not a {kind}"
    known = [manifest.name for manifest in (catalog.workers() if kind == "provider" else catalog.gateways())]
    return f"there is no {kind} {name}{nearest(name, known)}"


def check_prewarmed(names: Iterable[str], catalog: Catalog | None) -> str | None:
    """What is wrong with the first wrong one of the providers to prewarm, or None; it takes a catalog to know them."""
    if catalog is None:
        return None
    return next(filter(None, (check_name("provider", name, catalog) for name in names)), None)


def check_option(option: Option, value: object) -> str | None:
    """What is wrong with the value of an option, or None."""
    expected = f"{shown(value)} is not {_EXPECTED[option.type]}"
    try:
        msgspec.convert(value, OPTION_TYPES[option.type])
    except msgspec.ValidationError:
        return expected
    if value == "" and option.type in TEXTS:
        return None
    if option.type == "url" and not _is_url(str(value)):
        return expected
    if option.choices and value not in option.choices:
        return f"{shown(value)} is not one of {', '.join(option.choices)}"
    return None


def check_key(kind: str, name: str, key: str, options: Mapping[str, Option]) -> str | None:
    """What is wrong with the name of an option, or None."""
    if key in options:
        return None
    hint = nearest(key, options) or f"; it has: {', '.join(options) or 'none'}"
    return f"[{kind}.{name}] has no option {key}{hint}"


def _check_secrets(kind: str, name: str, content: Mapping[str, object]) -> Problem | None:
    for key in content:
        if is_secret(key):
            what = "keys" if kind == "provider" else "secrets"
            sentence = f"{what} do not belong in this file; {way_of_secrets(kind, name)} and remove {key}"
            return Problem((kind, name, key), sentence)
    return None


def _check_declared(kind: str, name: str, content: Mapping[str, object], catalog: Catalog) -> Problem | None:
    wrong = check_name(kind, name, catalog)
    if wrong is not None:
        return Problem((kind, name), wrong)
    if catalog.is_broken(name):
        return None
    options = options_of(kind, catalog.find(name).declared)
    for key, value in content.items():
        wrong = check_key(kind, name, key, options) or check_option(options[key], value)
        if wrong is not None:
            return Problem((kind, name, key), wrong if key not in options else f"{key}: {wrong}")
    return None


def _is_url(text: str) -> bool:
    """As far as it can be told from the form; what it may name is decided by each load."""
    try:
        url = urlsplit(text.strip())
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and bool(url.hostname)
