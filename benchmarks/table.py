"""A run as a table. Pure."""

from collections.abc import Iterator, Sequence

from benchmarks.figures import Figure, figures, shown
from benchmarks.measured import FULL, Side
from benchmarks.record import Record
from benchmarks.summary import Summary, ratios, summarize

_HEAD = ("figure", "unit", "product", "limit", "ratio", "target", "")


def table(record: Record) -> list[str]:
    """Lines: every figure that was measured, medians with minimum and maximum, then what the limits are."""
    present = [figure for figure in figures(record.sizes) if record.values(figure.name, Side.PRODUCT)]
    notes: list[str] = []
    rows = [row for figure in present for row in _rows(record, figure, notes)]
    return [*aligned([_HEAD, *rows]), "", *_explained(notes), "", *_correctness(record)]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns beside each other, as wide as they have to be."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def spread(summary: Summary, unit: str) -> str:
    """`median (least-most)`."""
    return f"{shown(summary.median, unit)} ({shown(summary.least, unit)}-{shown(summary.most, unit)})"


def _rows(record: Record, figure: Figure, notes: list[str]) -> Iterator[tuple[str, ...]]:
    product = summarize(record.values(figure.name, Side.PRODUCT))
    limit, ratio = _beside(record, figure, Side.LIMIT)
    note = f" [{_number(figure.limit, notes)}]" if limit else ""
    met = figure.is_met(product.median, ratio)
    verdict = "" if met is None or record.sizes != FULL else "met" if met else "NOT MET"
    yield (
        figure.title, figure.unit, spread(product, figure.unit), limit + note, _ratio(ratio), figure.wanted, verdict,
    )  # fmt: skip
    for side, explanation in figure.parts.items():
        part, ratio = _beside(record, figure, side)
        if part:
            name = f"  of it: {side}"
            yield name, figure.unit, "", f"{part} [{_number(explanation, notes)}]", _ratio(ratio), "", ""


def _beside(record: Record, figure: Figure, side: Side) -> tuple[str, float | None]:
    values, bases = record.pairs(figure.name, Side.PRODUCT, side)
    if not bases:
        return "", None
    found = ratios(values, bases)
    return spread(summarize(bases), figure.unit), summarize(found).median if found else None


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _number(note: str, notes: list[str]) -> int:
    if note not in notes:
        notes.append(note)
    return notes.index(note) + 1


def _explained(notes: Sequence[str]) -> Iterator[str]:
    yield "limits, measured in the same rounds (ratio: product to limit, the median of the rounds' own ratios):"
    for number, note in enumerate(notes, 1):
        yield f"  [{number}] {note}"


def _correctness(record: Record) -> Iterator[str]:
    for side, counts in record.faults.items():
        if counts:
            yield f"wrong ({side}): " + ", ".join(f"{count} x {kind}" for kind, count in sorted(counts.items()))
    yield f"bad: {record.bad} (exact text, one acknowledgement, one end, in order, nothing stray, no error)"
