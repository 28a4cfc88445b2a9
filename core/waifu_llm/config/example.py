"""The commented config file: every key, explained, with its default; made from the settings themselves."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from waifu_llm.catalog import Manifest, Option
from waifu_llm.config.check_options import options_of
from waifu_llm.config.settings import HELP, SECTIONS

_HEAD: Final = """\
# waifu-llm.toml: the settings of waifu-llm. Flags go before variables, variables before this file.
# The variable of a key is WAIFU_LLM_<SECTION>_<KEY>: WAIFU_LLM_SERVER_PORT=7000 (lists with commas between).
# Remove the "# " before a key to change it; what is shown is the default. `waifu-llm check` checks this file.
"""
_GATEWAYS: Final = """
# Gateways let programs in that speak another protocol. The keys from here on have no variables. For one run:
# waifu-llm serve --gateway {name} --set gateway.{name}.KEY=VALUE
"""
_TAIL: Final = """
# Defaults for the load options of a provider; `waifu-llm list --json` names them. Keys never stand here:
# they are read from the provider's own variable (OPENAI_API_KEY) or stored by `waifu-llm keys set openai`.
# [provider.openai]
# base_url = "https://llm.example.org/v1"
"""


def example_text(gateways: Sequence[Manifest]) -> str:
    """The whole file; as it stands it changes nothing."""
    parts = [_HEAD]
    for section, struct in SECTIONS.items():
        parts.append(f"\n[{section}]\n")
        for field in msgspec.structs.fields(struct):
            parts.append(_entry(field.name, HELP[section][field.name], field.default))
    return "".join([*parts, *_gateways(gateways), _TAIL])


def _gateways(gateways: Sequence[Manifest]) -> Iterator[str]:
    for number, manifest in enumerate(gateways):
        options = options_of("gateway", manifest.declared)
        if number == 0:
            yield _GATEWAYS.format(name=manifest.name)
        yield f"\n# {manifest.declared.description}.\n[gateway.{manifest.name}]\n"
        yield from (_entry(name, option.help, _default(option)) for name, option in options.items())


def _default(option: Option) -> object:
    if option.default is None and option.type in ("list", "paths"):
        return []
    return option.default


def _entry(key: str, help_: str, default: object) -> str:
    return f"# {help_}\n# {key} = {_toml(default)}\n"


def _toml(value: object) -> str:
    match value:
        case None:
            return '""'
        case bool():
            return "true" if value else "false"
        case tuple() | list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case str():
            return f'"{value}"'
        case int() | float():
            return str(value)
    raise TypeError(type(value))
