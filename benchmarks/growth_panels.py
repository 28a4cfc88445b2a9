"""What is plotted, as numbers and words: for each sweep two panels beside each other. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.growth_record import OURS, GrowthRecord, Role, Step, Sweep, cpu_name
from benchmarks.summary import Summary

PRODUCT: Final = "product"
LIMIT: Final = "limit"


@dataclass(frozen=True, slots=True)
class Line:
    """`points`: by size the median with its spread. `hue`: what it belongs to, the same in all plots."""

    label: str
    hue: str
    points: Mapping[int, Summary]


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. `level`: a value to mark, with its name."""

    title: str
    across: str
    up: str
    lines: tuple[Line, ...]
    log_across: bool = True
    log_up: bool = False
    level: tuple[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """A file `growth-<sweep>.svg`; `text` says in words what a picture says."""

    sweep: Sweep
    text: str
    panels: tuple[Panel, ...] = field(default_factory=tuple)

    @property
    def file(self) -> str:
        """Its name."""
        return f"growth-{self.sweep}.svg"


def plots(record: GrowthRecord) -> Iterator[Plot]:
    """Those whose sweeps were measured; modules share the plot of the workers."""
    made = {
        Sweep.CONNECTIONS: _connections,
        Sweep.STREAMS: _streams,
        Sweep.PACED: _paced,
        Sweep.WORKERS: _workers,
        Sweep.PROMPTS: _prompts,
    }
    for sweep, make in made.items():
        if record.sweeps.get(sweep):
            yield make(record)


def _connections(record: GrowthRecord) -> Plot:
    steps, across = record.sweeps[Sweep.CONNECTIONS], "connections that do nothing"
    memory = Line("module", Role.CORE, _points(steps, "core_mb"))
    answer = Line("an answer", PRODUCT, _points(steps, "answer_ms"))
    return Plot(
        Sweep.CONNECTIONS,
        "Memory of the module and time of one client's answer against the number of idle connections.",
        (
            Panel("Memory of the module", across, "MB resident", (memory,), log_across=False),
            Panel("One client's answer, p50", across, "ms", (answer,), log_across=False),
        ),
    )


def _streams(record: GrowthRecord) -> Plot:
    steps, across = record.sweeps[Sweep.STREAMS], "streams at once, as fast as they come"
    lines = [
        Line("waifu-llm", PRODUCT, _points(steps, "product.chunks_per_s")),
        Line("limit: the bare chain", LIMIT, _points(steps, "limit.chunks_per_s")),
    ]
    return Plot(
        Sweep.STREAMS,
        "Chunks a second against the number of streams, and the CPU time that each process takes for a chunk.",
        (Panel("Chunks a second", across, "chunks/s", _present(lines)), _per_chunk(steps, across)),
    )


def _paced(record: GrowthRecord) -> Plot:
    steps, across = record.sweeps[Sweep.PACED], "streams of 20 chunks a second each"
    lines = [
        Line("lateness, p99", "late", _points(steps, "product.late_p99_ms")),
        Line("hop, p99", PRODUCT, _points(steps, "product.hop_p99_ms")),
        Line("hop, p50", Role.CORE, _points(steps, "product.hop_p50_ms")),
        Line("hop of the bare chain, p99", LIMIT, _points(steps, "limit.hop_p99_ms")),
    ]
    return Plot(
        Sweep.PACED,
        "Lateness and hop of chunks against the number of streams at a model's pace, and the CPU cores used.",
        (
            Panel("From the service's write to the client", across, "ms", _present(lines), log_up=True),
            _cores(record, steps, across),
        ),
    )


def _workers(record: GrowthRecord) -> Plot:
    steps, across = record.sweeps[Sweep.WORKERS], "workers (or modules) that share 8 streams"
    modules = record.sweeps.get(Sweep.MODULES, [])
    lines = [
        Line("one module, so many workers", PRODUCT, _points(steps, "product.chunks_per_s")),
        Line("so many modules, a worker each", LIMIT, _points(modules, "product.chunks_per_s")),
    ]
    return Plot(
        Sweep.WORKERS,
        "Chunks a second against the number of workers and of modules, and the CPU time that each process takes.",
        (Panel("Chunks a second", across, "chunks/s", _present(lines)), _per_chunk(steps, "workers of one module")),
    )


def _prompts(record: GrowthRecord) -> Plot:
    steps, across = record.sweeps[Sweep.PROMPTS], "bytes of the prompt"
    waits = [
        Line("first chunk", PRODUCT, _points(steps, "first_ms")),
        Line("acknowledgement", Role.CORE, _points(steps, "ack_ms")),
    ]
    used = [Line(role, role, _points(steps, f"cpu_ms.{role}")) for role in OURS]
    return Plot(
        Sweep.PROMPTS,
        "Time to acknowledgement and first chunk, and CPU time of each process, against the size of the prompt.",
        (
            Panel("Time from asking, p50", across, "ms", _present(waits), log_up=True),
            Panel("CPU time of one request", across, "ms", _present(used), log_up=True),
        ),
    )


def _per_chunk(steps: Iterable[Step], across: str) -> Panel:
    lines = [Line(role, role, _points(steps, f"product.us.{role}")) for role in OURS]
    return Panel("CPU time for a chunk", across, "µs", _present(lines))


def _cores(record: GrowthRecord, steps: Iterable[Step], across: str) -> Panel:
    lines = [Line(role, role, _points(steps, cpu_name(role))) for role in Role]
    level = (f"the machine's {record.cores} cores", float(record.cores))
    return Panel("CPU while all of them ran", across, "cores used", (*_present(lines), *_sum(lines)), level=level)


def _sum(lines: Iterable[Line]) -> Iterator[Line]:
    """All roles together, of medians."""
    whole: dict[int, float] = {}
    for line in lines:
        for at, found in line.points.items():
            whole[at] = whole.get(at, 0.0) + found.median
    if whole:
        yield Line("all of them", "sum", {at: Summary(value, value, value) for at, value in whole.items()})


def _present(lines: Iterable[Line]) -> tuple[Line, ...]:
    return tuple(line for line in lines if line.points)


def _points(steps: Iterable[Step], name: str) -> dict[int, Summary]:
    return {step.at: step.spread(name) for step in steps if step.has(name)}
