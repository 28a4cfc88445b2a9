"""The states of a worker or a gateway, the moves between them, and when one that died is started again. Pure."""

from enum import StrEnum
from typing import Final


class WorkerState(StrEnum):
    """Where a worker is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


MOVES: Final[dict[WorkerState, frozenset[WorkerState]]] = {
    WorkerState.STOPPED: frozenset({WorkerState.STARTING}),
    WorkerState.STARTING: frozenset({WorkerState.READY, WorkerState.STOPPING, WorkerState.FAILED}),
    WorkerState.READY: frozenset({WorkerState.STOPPING, WorkerState.STOPPED, WorkerState.FAILED}),
    WorkerState.STOPPING: frozenset({WorkerState.STOPPED}),
    WorkerState.FAILED: frozenset({WorkerState.STARTING, WorkerState.STOPPED}),
}


# After the first death within the window of crashes, the second, and so on; after more the last.
RESTART_DELAYS_S: Final = (0.0, 1.0, 2.0, 4.0)


class ForbiddenMove(AssertionError):
    """A move that the table does not allow: a bug of the supervisor."""


def check_move(old: WorkerState, new: WorkerState) -> None:
    """Raises: ForbiddenMove where `old` may not become `new`."""
    if new not in MOVES[old]:
        raise ForbiddenMove(f"a worker that is {old} cannot become {new}")


class CrashLimit:
    """Counts deaths of a worker that was ready and had delivered nothing since, within a window of time.

    A worker that delivered something and then died is started again without counting: it does its work.
    """

    def __init__(self, crashes: int, window_s: float) -> None:
        self._crashes = crashes
        self._window_s = window_s
        self._times: list[float] = []

    def died(self, now: float, *, delivered: bool) -> bool:
        """Note one death; whether the limit is used up with it."""
        if delivered:
            return False
        self._times = [time for time in self._times if now - time < self._window_s]
        self._times.append(now)
        return len(self._times) >= self._crashes

    @property
    def deaths(self) -> int:
        """How many the last death found counted, itself among them: a long good life makes all before it forgotten."""
        return len(self._times)

    def reset(self) -> None:
        """A new load gives a worker that used up its limit a new chance."""
        self._times.clear()


def restart_delay(deaths: int) -> float:
    """Seconds until a gateway is started again, after so many deaths within the window."""
    return RESTART_DELAYS_S[min(deaths, len(RESTART_DELAYS_S)) - 1]
