"""The types of options, and what a text on a command line or in a variable stands for. Pure."""

from typing import Annotated, Any, Final

from msgspec import Meta

from waifu_llm.catalog import OptionType

# The finite ones: JSON has no others.
_LARGEST: Final = 1.7e308
OPTION_TYPES: Final[dict[OptionType, Any]] = {
    "string": str,
    "url": str,
    "host": str,
    "integer": Annotated[int, Meta(ge=-(2**53), le=2**53)],
    "number": Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)],
    "boolean": bool,
    "list": list[str],
    "path": str,
    "paths": list[str],
}
_BOOLEANS: Final = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False} | {
    "no": False,
    "off": False,
}


def setting_from_text(default: object, text: str) -> object:
    """The value of a setting with that default; what does not fit stays text, and is refused where it is checked."""
    match default:
        case bool():
            return _boolean(text)
        case int() | float():
            return _number(text, type(default))
        case tuple():
            return _parts(text)
    return text


def option_from_text(kind: OptionType, text: str) -> object:
    """The value of an option of that type; what does not fit stays text, and is refused where it is checked."""
    match kind:
        case "boolean":
            return _boolean(text)
        case "integer" | "number":
            return _number(text, int if kind == "integer" else float)
        case "list" | "paths":
            return _parts(text)
    return text


def _boolean(text: str) -> object:
    return _BOOLEANS.get(text.strip().lower(), text)


def _number(text: str, kind: type[int] | type[float]) -> object:
    try:
        return kind(text)
    except ValueError:
        return text


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
