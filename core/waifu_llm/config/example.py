"""The commented config file: every key, explained, with its default; made from the settings themselves."""

from typing import Final

import msgspec

from waifu_llm.config.settings import HELP, SECTIONS

_HEAD: Final = """\
# waifu-llm.toml: the settings of waifu-llm. Flags go before variables, variables before this file.
# The variable of a key is WAIFU_LLM_<SECTION>_<KEY>: WAIFU_LLM_SERVER_PORT=7000 (lists with commas between).
# Remove the "# " before a key to change it; what is shown is the default. `waifu-llm check` checks this file.
"""
_TAIL: Final = """
# Defaults for the load options of a provider; `waifu-llm list --json` names them. Keys never stand here:
# they are read from the provider's own variable (OPENAI_API_KEY) or stored by `waifu-llm keys set openai`.
# [provider.openai]
# base_url = "https://llm.example.org/v1"
"""


def example_text() -> str:
    """The whole file; as it stands it changes nothing."""
    parts = [_HEAD]
    for section, struct in SECTIONS.items():
        parts.append(f"\n[{section}]\n")
        for field in msgspec.structs.fields(struct):
            parts.append(f"# {HELP[section][field.name]}\n# {field.name} = {_toml(field.default)}\n")
    return "".join(parts) + _TAIL


def _toml(value: object) -> str:
    match value:
        case None:
            return '""'
        case bool():
            return "true" if value else "false"
        case tuple():
            return "[]"
        case str():
            return f'"{value}"'
        case int() | float():
            return str(value)
    raise TypeError(type(value))
