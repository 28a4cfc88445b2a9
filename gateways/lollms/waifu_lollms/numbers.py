"""Which numbers a generation may be asked for, by a program, a personality's file or lollms.yaml. Pure."""

import math
from typing import Final, NamedTuple

from waifu_client.protocol import MAX_INTEGER

MOST: Final = 2**31 - 1  # the most that the module's protocol takes for a count
_LONGEST: Final = 10**18


class Limits(NamedTuple):
    """The numbers from `low` to `high`, both included (None: without an end); `whole`: integers only."""

    low: int | None
    high: int | None
    whole: bool = True


# In the order that LoLLMs writes them in; the module's protocol has the same limits.
LIMITS: Final = {
    "temperature": Limits(0, 1000, whole=False),
    "top_k": Limits(0, MOST),
    "top_p": Limits(0, 1, whole=False),
    "repeat_penalty": Limits(-1000, 1000, whole=False),
    "repeat_last_n": Limits(-1, MOST),
    "seed": Limits(-MAX_INTEGER, MAX_INTEGER),
}
LENGTH: Final = Limits(None, None)


def number(value: object, limits: Limits) -> float:
    """`value` as it is within `limits`, an `int` where they are whole. Raises: ValueError, the end of a sentence.

    40.0 is a whole number; true is no number at all.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be {_wanted(limits)}, not {kind(value)}")  # noqa: TRY004 - one error for what is asked
    if not _within(value, limits):
        raise ValueError(f"must be {_wanted(limits)}, not {_shown(value)}")
    return int(value) if limits.whole else float(value)


def kind(value: object) -> str:
    """What a value is, in words, and never the value itself: it may be long, or refer to itself."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return "a text"
        case int() | float():
            return "a number"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "binary data"


def _within(value: float, limits: Limits) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if limits.low is not None and value < limits.low:
        return False
    if limits.high is not None and value > limits.high:
        return False
    return not limits.whole or value == int(value)


def _wanted(limits: Limits) -> str:
    what = "a whole number" if limits.whole else "a number"
    if limits.low is None or limits.high is None:
        return what
    return f"{what} from {limits.low} to {limits.high}"


def _shown(value: float) -> str:
    # Python refuses to write out integers of thousands of digits.
    return "a number that large" if isinstance(value, int) and abs(value) > _LONGEST else str(value)
