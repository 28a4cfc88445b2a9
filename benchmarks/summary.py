"""Numbers about numbers. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Summary:
    """The median of some rounds, with the least and the most of them."""

    median: float
    least: float
    most: float

    def meets(self, other: "Summary") -> bool:
        """The two ranges have something in common: a difference of their medians may be chance."""
        return self.least <= other.most and other.least <= self.most


def summarize(values: Sequence[float]) -> Summary:
    """Of at least one value."""
    return Summary(median(values), min(values), max(values))


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which that part of them lies; NaN of none."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * part))] if ranked else math.nan


def ratios(values: Sequence[float], bases: Sequence[float]) -> list[float]:
    """Each value to the one beside it: both are of one round, which had one mood of the machine."""
    return [value / base for value, base in zip(values, bases, strict=True) if base]
