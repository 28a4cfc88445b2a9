"""The reading thread's loop, run on the test's own thread."""

import os
from collections.abc import Iterator

import pytest

from waifu_worker import input as module
from waifu_worker.framing import decode_to_worker, encode
from waifu_worker.input import read_input
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


def test_the_messages_of_one_read_come_together_and_bad_lines_are_left_out(
    pipe: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    source, sink = pipe
    os.write(sink, encode(Cancel(id=1)) + b"secret nonsense\n" + encode(Cancel(id=2)) + b"\n" + b'{"type":"canc')
    os.close(sink)
    delivered: list[list[ToWorker]] = []
    read_input(source, decode_to_worker, delivered.append, lambda: True)
    assert delivered == [[Cancel(id=1), Cancel(id=2)]]
    log = capsys.readouterr().err
    assert log.count("skipped a line") == 2
    assert "secret" not in log


def test_half_a_message_is_delivered_once_it_is_whole(pipe: tuple[int, int]) -> None:
    source, sink = pipe
    line = encode(Cancel(id=1))
    halves = iter([line[:9], line[9:]])
    os.write(sink, next(halves))
    delivered: list[list[ToWorker]] = []

    def deliver(messages: list[ToWorker]) -> None:
        delivered.append(messages)
        os.close(sink)

    def write_the_rest() -> bool:
        os.write(sink, next(halves))
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TICK_S", 0.001)
        read_input(source, decode_to_worker, deliver, write_the_rest)
    assert delivered == [[Cancel(id=1)]]


def test_an_empty_read_ends_it_at_once(pipe: tuple[int, int]) -> None:
    source, sink = pipe
    os.close(sink)
    read_input(source, decode_to_worker, _never, lambda: True)


def test_it_ends_when_the_tick_says_so(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TICK_S", 0.001)
    ticks = iter([True, True, False])
    read_input(pipe[0], decode_to_worker, _never, lambda: next(ticks))
    assert list(ticks) == []


def test_a_line_over_the_limit_ends_it(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "read", lambda *_: b"x" * (MAX_LINE_BYTES + 1))
    os.write(pipe[1], b"x")
    read_input(pipe[0], decode_to_worker, _never, lambda: True)
    assert "unreadable" in capsys.readouterr().err


def test_an_input_that_cannot_be_read_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    folder = os.open("/", os.O_RDONLY)
    try:
        read_input(folder, decode_to_worker, _never, lambda: True)
    finally:
        os.close(folder)
    assert "unreadable" in capsys.readouterr().err


def _never(messages: list[ToWorker]) -> None:
    raise AssertionError(messages)
