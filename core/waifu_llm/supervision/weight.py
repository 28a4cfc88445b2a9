"""What a worker may weigh, and what the machine needs for itself: who must be ended before it swaps. Pure."""

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

MIB: Final = 2**20
_FLOOR_PART: Final = 32
_LEAST_FLOOR: Final = 128 * MIB
_MOST_FLOOR: Final = 1024 * MIB

One = TypeVar("One")


class Weights(msgspec.Struct, frozen=True):
    """Resident bytes by pid, children included, and those of the machine."""

    by_pid: Mapping[int, int]
    total: int
    available: int


def floor(total: int) -> int:
    """Bytes that a machine keeps for itself: a 32nd of all, 128 MiB at least and 1 GiB at most."""
    return min(max(total // _FLOOR_PART, _LEAST_FLOOR), _MOST_FLOOR)


def too_heavy(weights: Mapping[One, int], limit: int, total: int, available: int) -> dict[One, str]:
    """Who must be ended and why, as the end of a sentence: all over `limit`, bytes; 0 is none, and nobody is ended.

    Where nobody is and the machine runs out of memory all the same, the heaviest one, if its end helps enough.
    """
    if not limit:
        return {}
    over = {one: weight for one, weight in weights.items() if weight > limit}
    if over:
        allowed = f"over its limit of {limit // MIB} MiB (workers.memory_mb)"
        return {one: f"it used {weight // MIB} MiB of memory, {allowed}" for one, weight in over.items()}
    least = floor(total)
    if available >= least:
        return {}
    heavy = {one: weight for one, weight in weights.items() if weight >= least}
    if not heavy:
        return {}
    heaviest = max(heavy, key=heavy.__getitem__)
    left = f"the machine had {available // MIB} MiB of memory left"
    return {heaviest: f"{left} and it used the most of all workers, {heavy[heaviest] // MIB} MiB"}
