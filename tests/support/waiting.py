"""Every wait of the tests is bounded by one constant, scaled where a machine is slow."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from typing import Final

import psutil

FACTOR: Final = float(os.environ.get("WAIFU_TEST_TIMEOUT_FACTOR", "1"))
WAIT_S: Final = 20.0 * FACTOR
_LOOK_AGAIN_S: Final = 0.01


def bounded() -> asyncio.Timeout:
    """`async with bounded():` around anything that a test waits for."""
    return asyncio.timeout(WAIT_S)


async def until(fact: Callable[[], bool], what: str) -> None:
    """For facts of the operating system that announce themselves to nobody (a file, a pid); else use events."""
    end = time.monotonic() + WAIT_S
    while not fact():
        assert time.monotonic() < end, f"waited in vain until {what}"
        await asyncio.sleep(_LOOK_AGAIN_S)


def wait_until(fact: Callable[[], bool], what: str) -> None:
    """`until` for tests without a loop."""
    end = time.monotonic() + WAIT_S
    while not fact():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(_LOOK_AGAIN_S)


def gone(pid: int) -> bool:
    """The process does not run any more; one that nobody has waited for counts as gone."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_gone(pids: Iterable[int]) -> None:
    """Wait until none of them runs."""
    remaining = list(pids)
    wait_until(lambda: all(gone(pid) for pid in remaining), f"{remaining} are gone")
