"""On which line of a TOML file a key stands. tomllib keeps no positions, so the file is read again, line by line."""

from collections.abc import Sequence


def line_of(text: str, path: Sequence[str]) -> int | None:
    """The line (from 1) where the key or table `path` begins in the valid TOML `text`; None where it has none.

    A beginning of a valid file that ends between two statements is a valid file too, and one that ends inside a
    statement is not. So the first readable beginning that has the key ends with the key's statement, and the readable
    one before it tells where that statement began.
    """
    import tomllib  # late: nothing is wrong, mostly

    lines = text.split("\n")
    begin = 0
    for end in range(1, len(lines) + 1):
        try:
            table = tomllib.loads("\n".join(lines[:end]) + "\n")
        except tomllib.TOMLDecodeError:
            continue
        if _has(table, path):
            return begin + 1
        begin = end
    return None


def _has(table: object, path: Sequence[str]) -> bool:
    for key in path:
        if not isinstance(table, dict) or key not in table:
            return False
        table = table[key]
    return True
