"""The loop's and the watching thread's sides of one input."""

import asyncio
import os
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from support.waiting import bounded

from waifu_worker import input as module
from waifu_worker.framing import decode_to_worker, encode
from waifu_worker.input import Input
from waifu_worker.wire import MAX_LINE_BYTES, Cancel, ToWorker


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    source, sink = os.pipe()
    yield source, sink
    for end in (source, sink):
        try:
            os.close(end)
        except OSError:
            continue


class Heard:
    """What an input told the loop."""

    def __init__(self, source: int) -> None:
        self.input = Input(source, decode_to_worker)
        self.messages: asyncio.Queue[ToWorker] = asyncio.Queue()
        self.over = asyncio.Event()
        self.input.open(self.messages.put_nowait, self.over.set)


async def test_messages_come_in_order_and_bad_lines_are_left_out(
    pipe: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    source, sink = pipe
    os.write(sink, encode(Cancel(id=1)) + b"secret nonsense\n" + encode(Cancel(id=2)) + b"\n" + b'{"type":"canc')
    os.close(sink)
    async with bounded():
        heard = Heard(source)
        await heard.over.wait()
    assert [heard.messages.get_nowait() for _ in range(2)] == [Cancel(id=1), Cancel(id=2)]
    assert heard.messages.empty()
    log = capsys.readouterr().err
    assert log.count("skipped a line") == 2
    assert "secret" not in log


async def test_half_a_message_is_delivered_once_it_is_whole(pipe: tuple[int, int]) -> None:
    source, sink = pipe
    line = encode(Cancel(id=2))
    async with bounded():
        heard = Heard(source)
        os.write(sink, encode(Cancel(id=1)) + line[:9])
        assert await heard.messages.get() == Cancel(id=1)
        os.write(sink, line[9:])
        assert await heard.messages.get() == Cancel(id=2)


async def test_what_came_before_the_loop_listened_is_not_lost(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], encode(Cancel(id=1)))
    async with bounded():
        assert await Heard(pipe[0]).messages.get() == Cancel(id=1)


async def test_a_line_over_the_limit_ends_it_for_the_loop_and_for_the_thread(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_TICK_S", 0.001)
    os.write(pipe[1], b"x")
    async with bounded():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "read", lambda *_: b"x" * (MAX_LINE_BYTES + 1))
            heard = Heard(pipe[0])
            await heard.over.wait()
        assert "unreadable" in capsys.readouterr().err
        await asyncio.to_thread(heard.input.watch, lambda: True)


async def test_an_input_that_cannot_be_watched_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    folder = os.open("/", os.O_RDONLY)
    try:
        async with bounded():
            await Heard(folder).over.wait()
    finally:
        os.close(folder)
    assert "unreadable" in capsys.readouterr().err


def test_the_thread_sees_the_end_although_nobody_reads_what_came_before_it(pipe: tuple[int, int]) -> None:
    source, sink = pipe
    os.write(sink, encode(Cancel(id=1)))
    os.close(sink)
    Input(source, decode_to_worker).watch(lambda: True)


def test_the_thread_is_not_woken_by_messages(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for a tick for as long as the input is open, whatever waits in it."""
    monkeypatch.setattr(module, "_TICK_S", 0.001)
    os.write(pipe[1], encode(Cancel(id=1)))
    ticks = iter([True, True, False])
    Input(pipe[0], decode_to_worker).watch(lambda: next(ticks))
    assert list(ticks) == []


async def test_where_no_loop_reads_a_pipe_the_thread_hands_over_what_it_reads(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Windows does, with a pipe of this system: what comes before there is a loop waits for it."""
    monkeypatch.setattr(module, "_TICK_S", 0.001)
    monkeypatch.setattr(module, "sys", SimpleNamespace(platform="win32", stderr=sys.stderr))
    source, sink = pipe
    ticked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tick() -> bool:
        loop.call_soon_threadsafe(ticked.set)
        return False

    read = Input(source, decode_to_worker)
    messages: asyncio.Queue[ToWorker] = asyncio.Queue()
    os.write(sink, encode(Cancel(id=1)))
    async with bounded():
        watching = asyncio.create_task(asyncio.to_thread(read.watch, tick))
        await ticked.wait()
        read.open(messages.put_nowait, lambda: None)
        os.write(sink, encode(Cancel(id=2)))
        assert [await messages.get() for _ in range(2)] == [Cancel(id=1), Cancel(id=2)]
        os.close(sink)
        await watching
