"""What may stand in the config file's sections: unknown names and wrong values become sentences. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from waifu_llm.config.settings import (
    NAMED_SECTIONS,
    SECTIONS,
    Host,
    LogLevel,
    Nice,
    NoneOrMore,
    Port,
    Positive,
    Seconds,
)

_EXPECTED: Final[dict[object, str]] = {
    bool: "true or false",
    Host: "an address or a name",
    str | None: "a text",
    tuple[str, ...]: "a list of texts",
    Port: "a port, a whole number from 0 to 65535",
    Positive: "a whole number from 1",
    NoneOrMore: "a whole number from 0",
    Nice: "a whole number from 0 to 19",
    Seconds: "seconds, a number over 0",
    LogLevel: "debug, info, warning or error",
}


class Problem(msgspec.Struct, frozen=True):
    """What is wrong, and at which key of the file."""

    path: tuple[str, ...]
    message: str


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a sentence that suggests the known name closest to `name`, or "" where none is close."""
    import difflib  # late: nothing is misspelt, mostly

    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {found[0]}?" if found else ""


def check_value(section: str, key: str, value: object) -> str | None:
    """What is wrong with a value of a known key, or None."""
    field = next(f for f in msgspec.structs.fields(SECTIONS[section]) if f.name == key)
    try:
        msgspec.convert(value, field.type)
    except msgspec.ValidationError:
        return f"{shown(value)} is not {_EXPECTED[field.type]}"
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


def shown(value: object) -> str:
    """A value as a sentence quotes it."""
    text = "true" if value is True else "false" if value is False else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
