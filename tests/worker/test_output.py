"""The wire's sending end: one write a turn, whole lines, patience with a full pipe."""

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest
from support.waiting import bounded, until

from waifu_worker.framing import LineSplitter, encode
from waifu_worker.output import Output
from waifu_worker.wire import Beat, Chunk

LINE = encode(Chunk(id=1, texts=("x" * 1000,)))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    source, sink = os.pipe()
    os.set_blocking(source, False)
    yield source, sink
    os.close(source)
    os.close(sink)


class Gone(threading.Event):
    """Set once the output says that nobody reads."""

    def __call__(self) -> None:
        self.set()


def drain(source: int) -> bytes:
    data = b""
    while True:
        try:
            part = os.read(source, 1 << 20)
        except BlockingIOError:
            return data
        if not part:
            return data
        data += part


async def test_what_is_queued_in_one_turn_of_the_loop_leaves_in_one_write(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    real = os.write

    def counted(sink: int, data: bytes) -> int:
        if sink == pipe[1]:
            writes.append(bytes(data))
        return real(sink, data)

    output = Output(pipe[1], Gone())
    monkeypatch.setattr(os, "write", counted)
    output.write(b"one\n")
    output.send(Beat())
    output.write(b"two\n")
    assert writes == []
    await asyncio.sleep(0)
    assert writes == [b'one\n{"type":"beat"}\ntwo\n']
    assert drain(pipe[0]) == writes[0]


async def test_what_hundreds_of_streams_bring_in_one_turn_begins_to_leave_before_its_end(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1], Gone())
    lines = [b"%d\n" % number for number in range(200)]
    left = 0
    for line in lines:
        output.write(line)
        left += len(drain(pipe[0]).splitlines())
    assert len(lines) > left > len(lines) - 20
    await asyncio.sleep(0)
    assert left + len(drain(pipe[0]).splitlines()) == len(lines)


async def test_a_full_pipe_is_written_on_as_it_empties_and_nothing_is_lost(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1], Gone())
    for _ in range(500):
        output.write(LINE)
    await asyncio.sleep(0)
    waiting = asyncio.create_task(output.room())
    for _ in range(500):
        output.write(LINE)
    await asyncio.sleep(0)
    assert not waiting.done()
    data = b""
    async with bounded():
        while len(data) < 1000 * len(LINE):
            data += drain(pipe[0])
            await asyncio.sleep(0)
        await waiting
    assert data == LINE * 1000
    assert not output.congested
    output.write(b"again\n")
    await asyncio.sleep(0)
    assert drain(pipe[0]) == b"again\n"


async def test_a_beat_goes_out_while_the_loop_is_busy(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1], Gone())
    thread = threading.Thread(target=output.beat)
    thread.start()
    thread.join()
    assert drain(pipe[0]) == encode(Beat())


async def test_a_beat_never_lands_inside_a_line(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1], Gone())
    for _ in range(500):
        output.write(LINE)
    await asyncio.sleep(0)
    output.beat()
    data = b""
    async with bounded():
        while len(data) < 500 * len(LINE):
            data += drain(pipe[0])
            output.beat()
            await asyncio.sleep(0)
    data += drain(pipe[0])
    lines = LineSplitter().feed(data)
    assert [line for line in lines if line + b"\n" != encode(Beat())] == [LINE[:-1]] * 500


async def test_a_beat_that_finds_the_pipe_full_is_finished_by_the_loop(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1], Gone())
    filler = 0
    size = 65536
    while size:
        try:
            filler += os.write(pipe[1], b"x" * size)
        except BlockingIOError:
            size //= 2
    thread = threading.Thread(target=output.beat)
    thread.start()
    thread.join()
    await until(lambda: output.congested, "the loop has taken it over")
    assert drain(pipe[0]) == b"x" * filler
    async with bounded():
        await output.room()
    assert drain(pipe[0]) == encode(Beat())


async def test_a_pipe_that_nobody_reads_any_more_is_reported(pipe: tuple[int, int]) -> None:
    source, sink = os.pipe()
    os.close(source)
    gone = Gone()
    output = Output(sink, gone)
    output.write(LINE)
    await asyncio.sleep(0)
    assert gone.is_set()
    os.close(sink)
