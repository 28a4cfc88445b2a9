"""What a growth run found, as a JSON file, and what can be read from it: spreads, and what a step was bound by."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.summary import Summary, summarize

_FORMAT: Final = 1
# So much of a core, or of all of them, counts as all of it: nobody gets the last bit of one.
_FULL: Final = 0.85


class Sweep(StrEnum):
    """What grows, everything else being the same."""

    CONNECTIONS = "connections"
    STREAMS = "streams"
    PACED = "paced"
    WORKERS = "workers"
    MODULES = "modules"
    PROMPTS = "prompts"


class Role(StrEnum):
    """Who takes CPU time in a step: a process each, but for the sweeps of workers and modules. OTHERS is what else the
    machine does.
    """

    SERVICE = "service"
    WORKER = "worker"
    CORE = "module"
    CLIENTS = "clients"
    OTHERS = "others"


OURS: Final = tuple(role for role in Role if role is not Role.OTHERS)


@dataclass(frozen=True, slots=True)
class Step:
    """One size of a sweep. `values`: by name what each round found."""

    at: int
    values: dict[str, list[float]] = field(default_factory=dict)

    def spread(self, name: str) -> Summary:
        """Of all rounds. Raises: KeyError."""
        return summarize(self.values[name])

    def has(self, name: str) -> bool:
        """Whether it was measured."""
        return name in self.values

    def shares(self, side: str = "product") -> dict[Role, float]:
        """Cores that each role used, medians; empty where that was not measured."""
        names = {role: cpu_name(role, side) for role in Role}
        return {role: self.spread(name).median for role, name in names.items() if name in self.values}


@dataclass(slots=True)
class GrowthRecord:
    """`sweeps`: the steps of each, by size. `facts`: the machine's. `bad`: answers that were wrong, by kind."""

    facts: Mapping[str, Any]
    rounds: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    sweeps: dict[Sweep, list[Step]] = field(default_factory=dict)

    @property
    def cores(self) -> int:
        """Those of the machine."""
        return int(self.facts["cores"])

    def add(self, sweep: Sweep, at: int, values: Mapping[str, float]) -> None:
        """What one round found at that size."""
        steps = self.sweeps.setdefault(sweep, [])
        step = next((step for step in steps if step.at == at), None)
        if step is None:
            step = Step(at)
            steps.append(step)
            steps.sort(key=lambda step: step.at)
        for name, value in values.items():
            step.values.setdefault(name, []).append(float(f"{value:.4g}"))

    def blame(self, faults: Mapping[str, int]) -> None:
        """Count wrong answers."""
        for kind, count in faults.items():
            self.bad[kind] = self.bad.get(kind, 0) + count

    def write(self, file: Path) -> None:
        """Write it; folders are made."""
        file.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "format": _FORMAT,
            "facts": self.facts,
            "rounds": self.rounds,
            "bad": self.bad,
            "sweeps": {sweep: [asdict(step) for step in self.sweeps[sweep]] for sweep in Sweep if sweep in self.sweeps},
        }
        file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, file: Path) -> Self:
        """What `write` wrote. Raises: ValueError, OSError."""
        document = json.loads(file.read_text("utf-8"))
        if not isinstance(document, dict) or document.get("format") != _FORMAT or "sweeps" not in document:
            raise ValueError(f"{file} is no record of a growth run of this version")
        sweeps = {Sweep(name): [Step(**step) for step in steps] for name, steps in document["sweeps"].items()}
        return cls(document["facts"], document["rounds"], document["bad"], sweeps)


def cpu_name(role: Role, side: str = "product") -> str:
    """The name under which the cores are kept that a role used."""
    return f"{side}.cpu.{role}"


def bound(shares: Mapping[Role, float], cores: int, processes: Mapping[Role, int] = {}) -> str:
    """What kept it from going faster, as far as CPU says, in words for a table; "" where no CPU was counted.

    `processes`: how many a role has, where that is not one.
    """
    each = {role: shares[role] / processes.get(role, 1) for role in OURS if role in shares}
    if not each:
        return ""
    busiest = max(each, key=lambda role: each[role])
    if each[busiest] >= _FULL:
        return f"the core of the {busiest}"
    return "the machine's cores" if sum(shares.values()) >= _FULL * cores else "no core is full"
