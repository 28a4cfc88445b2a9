"""What one measurement gives, how large it is, and whose it is."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Side(StrEnum):
    """Who is measured. LIMIT: bare pieces that do the same work; the others are parts of it, measured alone."""

    PRODUCT = "product"
    LIMIT = "limit"
    RELAY = "relay"
    READER = "reader"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class Measured:
    """Values by the figure's name, and what was wrong with the answers, by kind: nothing in a good run."""

    values: dict[str, float] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Measured") -> "Measured":
        return Measured({**self.values, **other.values}, self.faults + other.faults)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each. `flood`: chunks in all; `requests`: of each kind for the latencies, after `warm_up` others;
    `paced`: streams; `crowd`: streams over `crowd_connections`; `loads`: warm ones; times in seconds.
    """

    flood: int = 100_000
    requests: int = 200
    warm_up: int = 20
    paced: tuple[int, int] = (50, 100)
    paced_rate: int = 50
    paced_s: float = 3.0
    crowd: int = 1000
    crowd_connections: int = 100
    crowd_rate: int = 20
    crowd_s: float = 4.0
    idle: int = 1000
    loads: int = 5


FULL = Sizes()
SHORT = Sizes(
    flood=3000, requests=10, warm_up=2, paced=(5, 10), paced_s=0.5,
    crowd=100, crowd_connections=10, crowd_s=0.5, idle=50, loads=2,
)  # fmt: skip
