"""What workers in memory weigh, as the test says it."""

from collections.abc import Collection

from waifu_llm.supervision.weight import MIB, Weights


class FakeMachine:
    """Its `weigh` is a pool's way to look at its processes."""

    def __init__(self) -> None:
        self.by_pid: dict[int, int] = {}
        self.each = 20 * MIB
        self.total = 16 * 1024 * MIB
        self.available = 8 * 1024 * MIB

    def weigh(self, pids: Collection[int]) -> Weights:
        """Called in a thread."""
        return Weights({pid: self.by_pid.get(pid, self.each) for pid in pids}, self.total, self.available)
