"""What may be written to a terminal, and how amounts are shown. Pure."""

import re
from typing import Final

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNESCAPED: Final = re.compile(r"[\x7f-\x9f]")
_UNDECODED: Final = re.compile("[\ud800-\udfff]")
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def printable(text: str) -> str:
    """Text from a model or a log without control characters, so that it cannot steer a terminal.

    Line feeds and tabs stay. Works on any piece of a longer text.
    """
    return _CONTROLS.sub("", text)


def escaped(json: str) -> str:
    """JSON in which also those control characters are escaped that JSON would let stand."""
    return _UNESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", json)


def encodable(text: str) -> str:
    """An argument of which not all could be decoded, with U+FFFD in the place of the rest."""
    return _UNDECODED.sub("\ufffd", text)


def one_line(text: str) -> str:
    """A message as one printable line."""
    return printable(" ".join(text.split()))


def size(count: float | None) -> str:
    """Bytes as people read them; "-" where they are not known."""
    if count is None:
        return "-"
    value, units = float(count), iter(_UNITS)
    unit = next(units)
    while value >= 1024 and (larger := next(units, None)) is not None:
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """Seconds as people read them; "-" where they are not known."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}min"
    return f"{minutes}min {whole % 60}s" if minutes else f"{whole}s"


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Columns under their heads; no blanks at the ends of lines."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows))
    return "\n".join(line.rstrip() for line in lines)
