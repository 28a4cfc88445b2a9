"""The chaos run and the kills of the core in their short forms; `scripts/chaos.py` has the long ones."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.chaos.kills import kill_cores
from support.chaos.run import ChaosRun

SEED = 5
CHAOS_S = 30
KILLS = 40

# Both count processes and descriptors, and use what there is of the machine: one after the other, in one worker.
pytestmark = [
    pytest.mark.xdist_group("chaos"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="it stops processes and looks at them through /proc"),
]


async def test_everything_goes_wrong_at_once_and_no_promise_is_broken(
    home: Path, installed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    installed("echo", "fake", "openai")
    assert await ChaosRun(CHAOS_S, SEED).run(home) == 0, capsys.readouterr().out


async def test_no_descendant_and_nothing_half_built_stays_behind_a_killed_core(
    home: Path, installed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    installed("echo", "fake")
    assert await kill_cores(home, SEED, rounds=KILLS) == 0, capsys.readouterr().out


@pytest.mark.full
@pytest.mark.timeout(3600)
async def test_two_hundred_killed_cores_leave_nothing_behind(
    home: Path, installed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    installed("echo", "fake")
    assert await kill_cores(home, SEED, rounds=200) == 0, capsys.readouterr().out
