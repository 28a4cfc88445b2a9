"""docs/performance.md, made from the records of both benchmarks. Pure: the same text from the same records."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from benchmarks.figures import Figure, figures, shown
from benchmarks.growth_panels import Plot, plots
from benchmarks.growth_record import OURS, GrowthRecord, Role, Step, Sweep, bound, cpu_name
from benchmarks.measured import Side
from benchmarks.record import Record
from benchmarks.summary import Summary, ratios, summarize

_NAME: Final = re.compile(r"\[\[([a-z]+)\]\]")
_COLUMNS: Final[dict[Sweep, tuple[tuple[str, str], ...]]] = {
    Sweep.CONNECTIONS: (("module, MB", "core_mb"), ("each, KB", "connection_kb"), ("an answer, ms", "answer_ms")),
    Sweep.STREAMS: (
        ("chunks/s", "product.chunks_per_s"),
        ("of the bare chain", "limit.chunks_per_s"),
        *((f"{role}, µs", f"product.us.{role}") for role in OURS),
    ),
    Sweep.PACED: (
        ("hop p50, ms", "product.hop_p50_ms"),
        ("hop p99, ms", "product.hop_p99_ms"),
        ("of the bare chain", "limit.hop_p99_ms"),
        ("late p99, ms", "product.late_p99_ms"),
        ("module, µs", "product.us.module"),
        ("worker, µs", "product.us.worker"),
        ("others, cores", "product.cpu.others"),
    ),
    Sweep.WORKERS: (
        ("chunks/s", "product.chunks_per_s"),
        ("workers, MB", "workers_mb"),
        ("module, µs", "product.us.module"),
        ("workers, µs", "product.us.worker"),
    ),
    Sweep.MODULES: (
        ("chunks/s", "product.chunks_per_s"),
        ("modules, µs", "product.us.module"),
        ("workers, µs", "product.us.worker"),
    ),
    Sweep.PROMPTS: (
        ("ack, ms", "ack_ms"),
        ("first chunk, ms", "first_ms"),
        *((f"{role}, ms CPU", f"cpu_ms.{role}") for role in OURS),
    ),
}
_TARGETS: Final = (
    "Commit {commit}, {processor} with {cores} cores; medians of {rounds} rounds with minimum and maximum, {bad} wrong "
    "answers{meanwhile}. Ratio: waifu-llm to the limit, the median of the rounds' own ratios; for rates more is "
    "better, for all else less. A target with two halves is met by either."
)
_HEADS: Final = {
    Sweep.CONNECTIONS: "connections",
    Sweep.STREAMS: "streams",
    Sweep.PACED: "streams",
    Sweep.WORKERS: "workers",
    Sweep.MODULES: "modules",
    Sweep.PROMPTS: "bytes",
}


def page(template: str, growth: GrowthRecord, targets: Record | None) -> str:
    """The template with `[[name]]` filled in. Raises: KeyError, for a name that there is not."""
    drawn = {plot.sweep: plot for plot in plots(growth)}
    parts: dict[str, str] = {
        "machine": _machine(growth),
        "targets": "\n\n".join(_targets(targets)),
        "costs": markdown(("one more …", "costs", "so one core has room for"), _costs(growth)),
        **{sweep: "\n\n".join(_sweep(growth, sweep, drawn.get(sweep))) for sweep in Sweep},
    }
    return _NAME.sub(lambda found: parts[found[1]], template)


def _sweep(growth: GrowthRecord, sweep: Sweep, plot: Plot | None) -> Iterator[str]:
    if plot is not None:
        yield f"![{plot.text}](images/{plot.file})"
    steps = growth.sweeps.get(sweep)
    yield _table(growth, sweep, steps) if steps else "Not measured."


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def number(value: float) -> str:
    """Three digits, in words that a reader wants: 0.52, 12.3, 310k."""
    if value >= 10_000:
        return f"{value / 1e3:.0f}k" if value < 10_000_000 else f"{value / 1e6:.0f}M"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(found: Summary) -> str:
    """`median (least-most)`; one number where they look the same."""
    middle, least, most = map(number, (found.median, found.least, found.most))
    return middle if least == most else f"{middle} ({least}-{most})"


def _machine(growth: GrowthRecord) -> str:
    facts = growth.facts
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    machine = f"{facts['processor']}, {facts['cores']} cores, {facts['system']}"
    others = [step.spread(cpu_name(Role.OTHERS)).median for step in _steps(growth) if step.has(cpu_name(Role.OTHERS))]
    meanwhile = f"; other programs used {number(summarize(others).median)} of the cores meanwhile" if others else ""
    return f"{machine}; {versions}; medians of {growth.rounds} rounds{meanwhile}"


def _steps(growth: GrowthRecord) -> Iterator[Step]:
    return (step for steps in growth.sweeps.values() for step in steps)


def _targets(record: Record | None) -> Iterator[str]:
    if record is None:
        yield "`python3 benchmarks/run.py` measures and prints them."
        return
    present = [figure for figure in figures(record.sizes) if record.values(figure.name, Side.PRODUCT)]
    limited = [figure for figure in present if record.pairs(figure.name, Side.PRODUCT, Side.LIMIT)[0]]
    notes = list(dict.fromkeys(figure.limit for figure in limited))
    machine = record.facts["machine"]
    yield _TARGETS.format(
        commit=_commit(str(record.facts["commit"])),
        processor=machine["processor"],
        cores=machine["cores"],
        rounds=len(record.rounds),
        bad=record.bad,
        meanwhile=f"; other programs used {machine['others_cores']:g} of the cores meanwhile"
        if "others_cores" in machine
        else "",
    )
    head = ("figure", "unit", "target", "waifu-llm", "limit", "ratio", "")
    yield markdown(head, (_target(record, figure, notes) for figure in present))
    yield "\n".join(f"{place}. {note}" for place, note in enumerate(notes, 1))
    parts = [cells for figure in present for cells in _parts(record, figure)]
    if parts:
        yield "Single parts of the limit, measured alone, and waifu-llm as a whole to each:"
        yield markdown(("figure", "part", "", "ratio"), parts)


def _commit(text: str) -> str:
    commit, changed, _ = text.partition("+")
    return commit[:12] + (" with changes" if changed else "")


def _target(record: Record, figure: Figure, notes: Sequence[str]) -> tuple[str, ...]:
    product = summarize(record.values(figure.name, Side.PRODUCT))
    values, bases = record.pairs(figure.name, Side.PRODUCT, Side.LIMIT)
    found = ratios(values, bases)
    ratio = summarize(found).median if found else None
    limit = f"{_shown(figure, summarize(bases))} [{notes.index(figure.limit) + 1}]" if bases else ""
    met = figure.is_met(product.median, ratio)
    return (
        figure.title,
        figure.unit,
        figure.wanted.replace(">=", "≥").replace("<=", "≤"),
        _shown(figure, product),
        limit,
        "" if ratio is None else f"{ratio:.2f}",
        "" if met is None else "met" if met else "**not met**",
    )


def _parts(record: Record, figure: Figure) -> Iterator[tuple[str, ...]]:
    for side, explanation in figure.parts.items():
        values, bases = record.pairs(figure.name, Side.PRODUCT, side)
        if bases:
            ratio = summarize(ratios(values, bases)).median
            yield figure.title, explanation, f"{_shown(figure, summarize(bases))} {figure.unit}", f"{ratio:.2f}"


def _shown(figure: Figure, found: Summary) -> str:
    middle, least, most = (shown(value, figure.unit) for value in (found.median, found.least, found.most))
    return middle if least == most else f"{middle} ({least}-{most})"


def _table(growth: GrowthRecord, sweep: Sweep, steps: Sequence[Step]) -> str:
    columns = [(title, name) for title, name in _COLUMNS[sweep] if any(step.has(name) for step in steps)]
    # One request after the other keeps nobody busy, however large it is.
    bounded = sweep is not Sweep.PROMPTS and any(step.shares() for step in steps)
    head = [_HEADS[sweep], *(title for title, _ in columns), *(["bound by"] if bounded else [])]
    rows = []
    for step in steps:
        cells = [spread(step.spread(name)) if step.has(name) else "" for _, name in columns]
        rows.append([f"{step.at:,}", *cells, *([_bound(growth, sweep, step)] if bounded else [])])
    return markdown(head, rows)


def _bound(growth: GrowthRecord, sweep: Sweep, step: Step) -> str:
    processes = {
        Sweep.WORKERS: {Role.WORKER: step.at},
        Sweep.MODULES: {Role.WORKER: step.at, Role.CORE: step.at},
    }.get(sweep, {})
    return bound(step.shares(), growth.cores, processes)


def _costs(growth: GrowthRecord) -> Iterator[tuple[str, str, str]]:
    """What one more of something costs, read off the sweeps."""
    for role in (Role.CORE, Role.WORKER):
        flood = _middle(growth, Sweep.STREAMS, f"product.us.{role}")
        if flood is not None:
            yield f"chunk in a flood, {role}", f"{number(flood)} µs", f"{number(1e6 / flood)} chunks/s"
    for role in (Role.CORE, Role.WORKER):
        each = _first(growth, Sweep.PACED, f"product.us.{role}")
        if each is not None:
            room = f"{number(1e6 / each)} chunks/s"
            yield f"chunk at a model's pace, {role}", f"{number(each)} µs", room
    connection = _last(growth, Sweep.CONNECTIONS, "connection_kb")
    if connection is not None:
        yield "idle connection", f"{number(connection)} KB of the module", ""
    workers = growth.sweeps.get(Sweep.WORKERS, [])
    if workers and workers[-1].has("workers_mb"):
        yield "API worker", f"{number(workers[-1].spread('workers_mb').median / workers[-1].at)} MB", ""
    for role in (Role.CORE, Role.WORKER):
        used, size = _last(growth, Sweep.PROMPTS, f"cpu_ms.{role}"), _size(growth, Sweep.PROMPTS)
        if used is not None:
            each = used / size * 1e6
            yield f"MB of prompt, {role}", f"{number(each)} ms", f"{number(1e3 / each)} MB/s"


def _middle(growth: GrowthRecord, sweep: Sweep, name: str) -> float | None:
    """The median over all steps: what it costs does not depend much on their sizes."""
    found = [step.spread(name).median for step in growth.sweeps.get(sweep, []) if step.has(name)]
    return summarize(found).median if found else None


def _first(growth: GrowthRecord, sweep: Sweep, name: str) -> float | None:
    """At the smallest size, where nothing is joined yet."""
    found = [step.spread(name).median for step in growth.sweeps.get(sweep, []) if step.has(name)]
    return found[0] if found else None


def _last(growth: GrowthRecord, sweep: Sweep, name: str) -> float | None:
    """At the largest size."""
    found = [step.spread(name).median for step in growth.sweeps.get(sweep, []) if step.has(name)]
    return found[-1] if found else None


def _size(growth: GrowthRecord, sweep: Sweep) -> int:
    return growth.sweeps[sweep][-1].at if growth.sweeps.get(sweep) else 0
