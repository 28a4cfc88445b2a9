"""R17: where the event loop was held up, the log says in which functions."""

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest
from support.waiting import WAIT_S

from waifu_llm import watchdog


class Heard(logging.Handler):
    """Tells the thread that waits that something was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.told.set()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    monkeypatch.setattr(watchdog, "BLOCKED_S", 0.01)
    monkeypatch.setattr(watchdog, "_INTERVAL_S", 0.01)
    monkeypatch.setattr(watchdog, "_LATE_S", WAIT_S)
    handler = Heard()
    logger = logging.getLogger(watchdog.__name__)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def hold_the_loop_up(told: threading.Event, secret: str) -> None:
    told.clear()
    assert told.wait(WAIT_S), secret


@pytest.mark.parametrize("quiet_s", [0.0, 1000.0])
async def test_r17_a_loop_that_is_held_up_is_told_with_the_functions_and_no_values(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, canary: str, quiet_s: float
) -> None:
    monkeypatch.setattr(watchdog, "QUIET_S", quiet_s)
    with watchdog.watching(asyncio.get_running_loop()):
        await asyncio.sleep(0)
        hold_the_loop_up(heard.told, canary)
        first = heard.texts[0]
        assert "blocked for over 0.01 s" in first
        assert "faults/test_watchdog.py" in first
        assert "hold_the_loop_up" in first
        assert canary not in first
        if not quiet_s:
            await asyncio.sleep(0)
            hold_the_loop_up(heard.told, canary)
            assert len(heard.texts) == 2


async def test_r17_a_process_that_stood_still_as_a_whole_is_not_told(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()
    times = iter((0.0, 1000.0))

    def later() -> float:
        now = next(times)
        if now:
            looked.set()
        return now

    monkeypatch.setattr(watchdog, "_LATE_S", 1.0)
    monkeypatch.setattr("waifu_llm.watchdog.monotonic", later)
    with watchdog.watching(asyncio.get_running_loop()):
        assert looked.wait(WAIT_S)
    assert heard.texts == []


def test_r17_what_happens_again_and_again_is_told_once_and_counted() -> None:
    sparing = watchdog.Sparing(10.0)
    told = [sparing.ask(now) for now in (100.0, 100.1, 109.9, 110.0, 119.9, 120.0, 500.0)]
    assert told == [0, None, None, 2, None, 1, 0]
