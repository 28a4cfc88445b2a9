"""The load programme in small: everyone is answered, exactly. What it costs is measured by `scripts/load.py`."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.load.run import Size, run

SMALL = Size(idle=200, burst=2000, streams=100, slow=5)
AS_PROMISED = Size(idle=1000, burst=10_000, streams=1000, slow=20)

pytestmark = [
    pytest.mark.xdist_group("chaos"),
    pytest.mark.skipif(sys.platform == "win32", reason="a selector of Windows has 512 sockets"),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "size", [SMALL, pytest.param(AS_PROMISED, marks=pytest.mark.full)], ids=["small", "as promised"]
)
async def test_everyone_is_answered_once_whatever_the_others_do(
    home: Path, installed: Callable[..., None], size: Size
) -> None:
    installed("echo", "fake")
    load = await run(home, size)
    assert (load.ledger.breaches, load.ledger.lost, load.ledger.double) == ([], 0, 0)
    assert load.ledger.outcomes["generate: SUCCESS"] >= size.burst + size.streams
