"""The wire's sending end: a line alone at once, many in one write, whole lines, patience with a full pipe."""

import asyncio
import os
import threading
from collections.abc import Iterator, Sequence
from random import Random

import pytest
from support.scripted_provider import HELLO, Scripted, params
from support.waiting import bounded, until

from waifu_worker.framing import LineSplitter, decode_from_worker, encode
from waifu_worker.output import Output
from waifu_worker.provider import Finish, Piece
from waifu_worker.requests import Requests
from waifu_worker.wire import Beat, Chunk, Done, Failed, Generate, Load

LINE = encode(Chunk(id=1, texts=("x" * 1000,)))
LONG_S = 1.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    source, sink = os.pipe()
    os.set_blocking(source, False)
    yield source, sink
    os.close(source)
    os.close(sink)


@pytest.fixture
def writes(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What each write to the pipe is given."""
    found: list[bytes] = []
    real = os.write

    def recorded(sink: int, data: bytes) -> int:
        if sink == pipe[1]:
            found.append(bytes(data))
        return real(sink, data)

    monkeypatch.setattr(os, "write", recorded)
    return found


class Clock:
    """Stands still, unless a test moves it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


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


async def test_a_line_that_comes_alone_leaves_at_once_and_those_close_behind_it_with_the_turn(
    pipe: tuple[int, int], writes: list[bytes]
) -> None:
    clock = Clock()
    output = Output(pipe[1], Gone(), clock)
    output.write(b"one\n")
    assert writes == [b"one\n"]
    output.write(b"two\n")
    output.send(Beat())
    clock.now += LONG_S
    output.write(b"three\n")
    assert writes == [b"one\n"]
    await asyncio.sleep(0)
    assert writes == [b"one\n", b'two\n{"type":"beat"}\nthree\n']
    output.write(b"four\n")
    assert len(writes) == 2
    await asyncio.sleep(0)
    clock.now += LONG_S
    output.write(b"five\n")
    assert writes[2:] == [b"four\n", b"five\n"]
    assert drain(pipe[0]) == b"".join(writes)


async def test_a_line_that_another_one_follows_leaves_with_that_one(pipe: tuple[int, int], writes: list[bytes]) -> None:
    clock = Clock()
    output = Output(pipe[1], Gone(), clock)
    output.write(b"text\n", more=True)
    assert writes == []
    output.write(b"end\n")
    assert writes == [b"text\nend\n"]
    output.write(b"text\n", more=True)
    output.write(b"end\n")
    await asyncio.sleep(0)
    assert writes == [b"text\nend\n"] * 2


@pytest.mark.parametrize("pieces", [("hello ", "world", Finish("stop")), ("cut ", "off")])
async def test_an_answer_that_is_not_streamed_leaves_in_one_write(
    pipe: tuple[int, int], writes: list[bytes], script: type[Scripted], pieces: Sequence[Piece]
) -> None:
    script.pieces = pieces
    clock = Clock()
    requests = Requests(script, Output(pipe[1], Gone(), clock))
    requests.handle(Load(id=1, ctx=1))
    await until(lambda: len(writes) == 1, "it is loaded")
    # Or its lines would leave together anyway, since the last one left just now.
    clock.now += LONG_S
    requests.handle(Generate(id=2, ctx=1, params=params(), messages=HELLO))
    await until(lambda: b'"id":2' in writes[-1], "it is answered")
    await requests.close()
    assert len(writes) == 2
    text, end = map(decode_from_worker, writes[1].splitlines())
    assert isinstance(text, Chunk)
    assert isinstance(end, Done | Failed)


async def test_lines_keep_their_order_however_they_leave(pipe: tuple[int, int]) -> None:
    clock, random = Clock(), Random(11)
    output = Output(pipe[1], Gone(), clock)
    lines = [b"%d %b\n" % (number, b"x" * random.choice((1, 100, 9_000))) for number in range(500)]
    data = b""
    was_full = False
    for line in lines:
        output.write(line, more=random.random() < 0.1)
        clock.now += random.choice((0, 0, LONG_S))
        was_full |= output.congested
        match random.randrange(8):
            case 0:
                await asyncio.sleep(0)
            case 1:
                output.beat()
            case 2:
                data += drain(pipe[0])
    output.write(b"last\n")
    async with bounded():
        while not data.endswith(b"last\n"):
            await asyncio.sleep(0)
            data += drain(pipe[0])
    assert was_full
    assert [line for line in data.splitlines(keepends=True) if line != encode(Beat())] == [*lines, b"last\n"]


async def test_what_hundreds_of_streams_bring_in_one_turn_begins_to_leave_before_its_end(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1], Gone(), Clock())
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
