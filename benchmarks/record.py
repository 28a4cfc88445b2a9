"""One run as a JSON file: what was measured, in every round, on which machine, with what."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.measured import Sizes

_FORMAT: Final = 1


class NotARecord(Exception):
    """The message says what is wrong with the file."""


@dataclass(slots=True)
class Record:
    """`rounds`: each figure's value by side. `faults`: what was wrong, by side and kind. `facts`: the machine's, in
    groups.
    """

    facts: Mapping[str, Any]
    sizes: Sizes
    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    faults: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def bad(self) -> int:
        """How much was wrong in all."""
        return sum(counts.total() for counts in self.faults.values())

    def add(self, number: int, side: str, values: Mapping[str, float], faults: Counter[str]) -> None:
        """One measurement of round `number`."""
        while len(self.rounds) <= number:
            self.rounds.append({})
        for name, value in values.items():
            self.rounds[number].setdefault(name, {})[side] = value
        self.faults[side] = self.faults.get(side, Counter()) + faults

    def values(self, figure: str, side: str) -> list[float]:
        """A figure of one side in all rounds that have it."""
        return [found[figure][side] for found in self.rounds if side in found.get(figure, {})]

    def pairs(self, figure: str, side: str, base: str) -> tuple[list[float], list[float]]:
        """A figure of two sides in all rounds that have both."""
        both = [found[figure] for found in self.rounds if {side, base} <= found.get(figure, {}).keys()]
        return [values[side] for values in both], [values[base] for values in both]

    def write(self, file: Path) -> None:
        """Write it; folders are made."""
        file.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "format": _FORMAT,
            "facts": self.facts,
            "sizes": asdict(self.sizes),
            "bad": self.bad,
            "faults": {side: dict(counts) for side, counts in self.faults.items()},
            "rounds": self.rounds,
        }
        file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, file: Path) -> "Record":
        """What `write` wrote. Raises: NotARecord, OSError."""
        try:
            document = json.loads(file.read_text("utf-8"))
            if document["format"] != _FORMAT:
                raise NotARecord(f"{file} is of another version of this program")
            sizes = document["sizes"]
            sizes["paced"] = tuple(sizes["paced"])
            faults = {side: Counter(counts) for side, counts in document["faults"].items()}
            return cls(document["facts"], Sizes(**sizes), document["rounds"], faults)
        except (ValueError, KeyError, TypeError) as error:
            raise NotARecord(f"{file} is no record of a benchmark ({error})") from error
