"""The figures there are, what each has to reach, and what stands beside it as the limit. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.measured import Side, Sizes

STREAMS: Final = (1, 10, 50)
CHAIN: Final = (
    "the bare chain: aiohttp with the least decoding, a pipe, a relay with frames of its own, joined like ours"
)
READER: Final = "reader: the same service read by aiohttp alone, with the least decoding"
_RELAYING: Final = "the bare relay in the chain"
_WORKING: Final = "the bare worker in the chain"
RELAY: Final = "relay: the bare relay alone, of a pipe whose worker writes from memory"


@dataclass(frozen=True, slots=True)
class Target:
    """`bound`, at least or at most; with `share`, so much of the limit of the same run is enough as well."""

    bound: float
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `limit`: what is measured beside it; `parts`: other sides that say more about it."""

    name: str
    title: str
    unit: str
    limit: str
    target: Target | None = None
    more_is_better: bool = False
    parts: Mapping[Side, str] = field(default_factory=dict)

    def is_met(self, value: float, ratio: float | None) -> bool | None:
        """Whether a value reaches the target; None where there is none."""
        if self.target is None:
            return None
        if self.target.share is not None and ratio is not None and ratio >= self.target.share:
            return True
        return value >= self.target.bound if self.more_is_better else value <= self.target.bound

    @property
    def wanted(self) -> str:
        """The target in words."""
        if self.target is None:
            return ""
        bound = f"{'>=' if self.more_is_better else '<='} {shown(self.target.bound, self.unit)}"
        return bound if self.target.share is None else f"{bound}, or {self.target.share:g} of the limit"


def shown(value: float, unit: str) -> str:
    """A value as a reader wants it."""
    if unit == "chunks/s":
        return f"{value / 1e3:.0f}k" if value >= 10_000 else f"{value:.0f}"
    if unit == "%":
        return f"{value:g}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def figures(sizes: Sizes) -> list[Figure]:
    """All of them, in the table's order."""
    return [*_throughput(), *_latencies(), *_paced(sizes), *_starts(sizes)]


def _throughput() -> list[Figure]:
    parts = {Side.READER: READER, Side.RELAY: RELAY}
    return [
        *(
            Figure(
                f"throughput.{streams}",
                f"chunks, {streams} stream{'s' * (streams > 1)}",
                "chunks/s",
                CHAIN,
                Target(240_000, share=0.7),
                more_is_better=True,
                parts=parts,
            )
            for streams in STREAMS
        ),
        Figure("cpu.core", "CPU of the core per chunk, 50 streams", "µs", _RELAYING, Target(1.5)),
        Figure("cpu.worker", "CPU of the worker per chunk, 50 streams", "µs", _WORKING),
        Figure("joined", "chunks in a message, 50 streams", "", CHAIN),
    ]


def _latencies() -> list[Figure]:
    reader = {Side.READER: READER}
    return [
        Figure("latency.ack", "acknowledgement, p50", "ms", CHAIN),
        Figure("latency.first_chunk", "first chunk, p50", "ms", CHAIN, Target(0.6), parts=reader),
        Figure("latency.first_chunk_p99", "first chunk, p99", "ms", CHAIN, parts=reader),
        Figure("latency.stream", "total of 20 chunks, streamed, p50", "ms", CHAIN, parts=reader),
        Figure("latency.plain", "total of 20 chunks, not streamed, p50", "ms", CHAIN, Target(0.5), parts=reader),
        Figure("latency.plain_p99", "total of 20 chunks, not streamed, p99", "ms", CHAIN, parts=reader),
        Figure("cpu.request.core", "CPU of the core per request of 20 chunks, streamed", "µs", _RELAYING),
        Figure("cpu.request.worker", "CPU of the worker per request of 20 chunks, streamed", "µs", _WORKING),
    ]


def _paced(sizes: Sizes) -> list[Figure]:
    found = []
    for number, streams in enumerate(sizes.paced):
        title = f"hop of a chunk, {streams} streams x {sizes.paced_rate}/s"
        found.append(Figure(f"hop.{number}.p50", f"{title}, p50", "ms", CHAIN, Target(0.6)))
        found.append(Figure(f"hop.{number}.p99", f"{title}, p99", "ms", CHAIN, Target(4.0)))
    title = f"{sizes.crowd:,} streams x {sizes.crowd_rate}/s over {sizes.crowd_connections} connections"
    return [
        *found,
        Figure("crowd.delivered", f"{title}: delivered", "%", CHAIN, Target(100.0), more_is_better=True),
        Figure("crowd.late_p99", f"{title}: lateness, p99", "ms", CHAIN, Target(50.0)),
        Figure("crowd.growth", f"{title}: memory grown in the second half", "MB", CHAIN, Target(1.0)),
        Figure("crowd.cpu.core", f"{title}: CPU of the core per chunk", "µs", _RELAYING),
        Figure("crowd.cpu.worker", f"{title}: CPU of the worker per chunk", "µs", _WORKING),
    ]


def _starts(sizes: Sizes) -> list[Figure]:
    server, worker = "a bare `websockets` server with msgspec", "a bare worker: aiohttp, msgspec, the list of models"
    python = {Side.PYTHON: "python: `python -c pass`"}
    answers = "a bare relay that answers at once"
    fresh = f"`uv venv`, `uv pip sync --offline`, then {worker}"
    return [
        Figure("start.listening", "start to listening", "ms", server, Target(120.0), parts=python),
        Figure("start.cpu", "CPU of a start, until it listens", "ms", server),
        Figure("load.cold", "load, environment ready, cold", "ms", worker, Target(220.0)),
        Figure("load.cpu", "CPU of a cold load, core and worker", "ms", worker),
        Figure("load.warm", "load, environment ready, warm", "ms", answers, Target(1.0)),
        Figure("load.prewarmed", "load, the first after serve --prewarm", "ms", answers, Target(1.0)),
        Figure("load.first", "first load: fresh home, warm uv cache, no network", "ms", fresh, Target(1500.0)),
        Figure("load.first_cpu", "CPU of a first load, all processes", "ms", fresh),
        Figure("memory.core", "resident: core, idle", "MB", server, Target(32.0)),
        Figure("memory.worker", "resident: API worker, loaded", "MB", worker, Target(40.0)),
        Figure("memory.connection", f"idle connection, each of {sizes.idle:,}", "KB", server, Target(12.0)),
    ]
