"""Two records beside each other. Pure."""

from collections.abc import Iterator

from benchmarks.figures import Figure, figures
from benchmarks.measured import Side
from benchmarks.record import Record
from benchmarks.summary import Summary, ratios, summarize
from benchmarks.table import aligned, spread

_HEAD = ("figure", "unit", "A", "B", "B/A", "of the limit: A", "B", "B/A", "")


def comparison(first: Record, second: Record) -> list[str]:
    """Lines: each figure that both have. What counts is the share of each run's own limit, where there is one."""
    rows = [_HEAD, *_rows(first, second)]
    lines = aligned(rows)
    if first.sizes != second.sizes:
        lines.append("the two runs have different sizes: only figures that do not depend on them can be compared")
    for name, record in (("A", first), ("B", second)):
        if record.bad:
            lines.append(f"{name} has {record.bad} wrong answers: its figures mean nothing")
    return lines


def verdict(figure: Figure, first: Summary, second: Summary) -> str:
    """What may be said of a change: nothing where the rounds of the two overlap."""
    if first.meets(second):
        return "within noise"
    return "better" if (second.median > first.median) == figure.more_is_better else "worse"


def _rows(first: Record, second: Record) -> Iterator[tuple[str, ...]]:
    for figure in figures(first.sizes):
        values = [record.values(figure.name, Side.PRODUCT) for record in (first, second)]
        if not all(values):
            continue
        one, other = map(summarize, values)
        shares = [ratios(*record.pairs(figure.name, Side.PRODUCT, Side.LIMIT)) for record in (first, second)]
        if all(shares):
            share, other_share = map(summarize, shares)
            of_limit = (_share(share), _share(other_share), _quotient(share, other_share))
            said = verdict(figure, share, other_share)
        else:
            of_limit = ("", "", "")
            said = verdict(figure, one, other)
        absolute = (spread(one, figure.unit), spread(other, figure.unit), _quotient(one, other))
        yield figure.title, figure.unit, *absolute, *of_limit, said


def _share(summary: Summary) -> str:
    return f"{summary.median:.2f} ({summary.least:.2f}-{summary.most:.2f})"


def _quotient(one: Summary, other: Summary) -> str:
    return f"{other.median / one.median:.2f}" if one.median else ""
