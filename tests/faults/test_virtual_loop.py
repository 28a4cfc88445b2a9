"""The loop of virtual time itself: what the other tests here lean on."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import virtual_loop
from support.virtual_loop import NothingLeft, VirtualLoop, run_virtually


@pytest.mark.virtual_time
async def test_a_minute_passes_at_once_and_timers_come_in_their_order() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    told: list[tuple[str, float]] = []
    begin = loop.time()
    loop.call_later(60, lambda: told.append(("late", loop.time() - begin)))
    loop.call_later(0.25, lambda: told.append(("early", loop.time() - begin)))
    await asyncio.sleep(3600)
    assert told == [("early", 0.25), ("late", 60.0)]
    assert loop.time() - begin == 3600


@pytest.mark.virtual_time
async def test_a_timeout_comes_when_all_wait_and_not_before_a_thread_is_done() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(600):
            await asyncio.Event().wait()
    go = threading.Event()
    asyncio.get_running_loop().call_soon(go.set)
    async with asyncio.timeout(0.001):
        assert await asyncio.to_thread(go.wait)


def test_the_end_of_a_loop_waits_for_its_threads_and_lets_no_time_pass() -> None:
    """Since Python 3.12 a runner gives them five minutes, which passed at once: tests failed that had used a thread."""
    executor = ThreadPoolExecutor(1)
    loop = VirtualLoop()
    loop.set_default_executor(executor)
    go = threading.Event()
    executor.submit(go.wait)
    threading.Timer(0.05, go.set).start()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        begin = runner.get_loop().time()
    assert loop.time() == begin


def test_a_wait_that_nothing_can_end_is_an_error() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(virtual_loop, "WAIT_S", 0.0)
        with pytest.raises(NothingLeft):
            run_virtually(asyncio.Event().wait())
