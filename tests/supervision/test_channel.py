"""How much of what a process says is heard in one turn of the loop, and that all of it is, in its order."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_process import FakeProcess

from waifu_llm.log import WorkerLog
from waifu_llm.redaction import Redactor
from waifu_llm.supervision.afterwards import Afterwards
from waifu_llm.supervision.channel import LAST_WORDS_S, LINES_PER_TURN, Channel
from waifu_worker import wire
from waifu_worker.framing import decode_from_worker, encode
from waifu_worker.wire import FromWorker

MANY = 3 * LINES_PER_TURN + 5


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Heard:
    """A channel's owner that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[int] = []
        self.hears: Callable[[], None] = lambda: None
        self.why: list[str] = []
        self.code: int | None = None

    def received(self, message: FromWorker) -> None:
        assert isinstance(message, wire.Done)
        assert self.code is None, "nothing after its end"
        self.messages.append(message.id)
        self.hears()

    def broken(self, why: str) -> None:
        self.why.append(why)

    def gone(self, returncode: int) -> None:
        self.code = returncode


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def afterwards() -> Afterwards:
    return Afterwards()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def channel(heard: Heard, clock: Clock, afterwards: Afterwards, tmp_path: Path) -> Channel[FromWorker]:
    log = WorkerLog(tmp_path / "fake.log", Redactor())
    return Channel(heard, log, decode_from_worker, clock, afterwards)


@pytest.fixture
def process(channel: Channel[FromWorker]) -> FakeProcess:
    process = FakeProcess([], {}, channel)
    channel.attach(process)
    return process


def lines(count: int, first: int = 0) -> bytes:
    return b"".join(encode(wire.Done(id=number)) for number in range(first, first + count))


async def turns() -> None:
    """As many turns of the loop as all lines of a test need."""
    for _ in range(200 // LINES_PER_TURN + 2):
        await asyncio.sleep(0)


async def test_one_turn_takes_so_many_lines_and_the_process_waits_with_more(
    channel: Channel[FromWorker], heard: Heard, process: FakeProcess
) -> None:
    channel.output(lines(MANY))
    assert heard.messages == list(range(LINES_PER_TURN))
    assert process.reads == [False]
    for turn in (2, 3):
        await asyncio.sleep(0)
        assert heard.messages == list(range(turn * LINES_PER_TURN))
    assert True not in process.reads
    await asyncio.sleep(0)
    assert heard.messages == list(range(MANY))
    assert process.reads[-1]


@pytest.mark.usefixtures("process")
async def test_what_its_hearers_put_off_is_done_when_the_lines_of_a_turn_have_been_told(
    channel: Channel[FromWorker], heard: Heard, afterwards: Afterwards
) -> None:
    done: list[int] = []

    def put_off() -> None:
        if len(heard.messages) in {1, LINES_PER_TURN + 1}:
            afterwards.do(lambda: done.append(len(heard.messages)))

    heard.hears = put_off
    channel.output(lines(MANY))
    assert done == [LINES_PER_TURN]
    await asyncio.sleep(0)
    assert done == [LINES_PER_TURN, 2 * LINES_PER_TURN]


@pytest.mark.usefixtures("process")
async def test_what_was_put_off_is_done_also_where_a_line_fails(
    channel: Channel[FromWorker], heard: Heard, afterwards: Afterwards
) -> None:
    done: list[int] = []

    def fail() -> None:
        afterwards.do(lambda: done.append(len(heard.messages)))
        raise RuntimeError("a bug")

    heard.hears = fail
    channel.output(lines(2))
    assert done == [2, 2]


async def test_what_comes_meanwhile_is_heard_behind_it(
    channel: Channel[FromWorker], heard: Heard, process: FakeProcess
) -> None:
    channel.output(lines(MANY))
    channel.output(lines(2, first=MANY))
    assert len(heard.messages) == LINES_PER_TURN
    await turns()
    assert process.reads[-1]
    assert heard.messages == list(range(MANY + 2))


async def test_few_lines_are_heard_at_once_also_before_the_process_is_known(
    channel: Channel[FromWorker], heard: Heard
) -> None:
    channel.output(lines(2))
    assert heard.messages == [0, 1]
    channel.output(lines(MANY, first=2))
    await turns()
    assert heard.messages == list(range(MANY + 2))


async def test_what_it_said_before_its_end_is_heard_before_its_end(
    channel: Channel[FromWorker], heard: Heard, process: FakeProcess
) -> None:
    channel.output(lines(MANY))
    process.exit(1)
    assert (heard.messages, heard.code) == (list(range(MANY)), 1)
    await asyncio.sleep(0)
    assert len(heard.messages) == MANY


@pytest.mark.usefixtures("process")
async def test_of_one_that_breaks_the_rules_no_more_is_heard(channel: Channel[FromWorker], heard: Heard) -> None:
    channel.output(b"garbage\n" * 200 + lines(2))
    await turns()
    assert (heard.messages, len(heard.why)) == ([], 1)


def said(channel: Channel[FromWorker]) -> str:
    """What a sentence about its end quotes."""
    quoted, log, _ = channel.details().partition(" (log: ")
    assert log
    return quoted


async def test_its_end_is_told_with_the_last_error_it_spoke_of(
    channel: Channel[FromWorker], clock: Clock, process: FakeProcess
) -> None:
    channel.errors(b"INFO gateway: it listens\nTraceback (most recent call last):\n  File x\nKeyError: 'colour'\n\n")
    channel.errors(b"INFO gateway: 3 programs are told\n")
    clock.now += LAST_WORDS_S
    process.exit(1)
    assert said(channel) == ": KeyError: 'colour'"


@pytest.mark.parametrize("line", [b"INFO gateway: a parameter is left out\n", b"WARNING sdk: slow\n", b"DEBUG x: y\n"])
async def test_a_line_of_its_log_that_is_no_error_is_no_cause_of_its_end(
    channel: Channel[FromWorker], process: FakeProcess, line: bytes
) -> None:
    channel.errors(line)
    process.exit(-11)
    assert said(channel) == ""


@pytest.mark.parametrize("words", [b"KeyError: 'colour'\n", b"step 1 of 2"])
async def test_what_it_said_long_before_its_end_is_no_cause_of_it(
    channel: Channel[FromWorker], clock: Clock, process: FakeProcess, words: bytes
) -> None:
    channel.errors(words)
    clock.now += LAST_WORDS_S + 0.1
    process.exit(1)
    assert said(channel) == ""


@pytest.mark.parametrize("pause", [LAST_WORDS_S * 9000, LAST_WORDS_S / 2])
async def test_an_error_is_no_younger_for_what_the_log_says_after_it(
    channel: Channel[FromWorker], clock: Clock, process: FakeProcess, pause: float
) -> None:
    channel.errors(b"ERROR gateway: a client sent nonsense\n")
    for _ in range(4):
        clock.now += pause
        channel.errors(b"INFO gateway: a program connected\n")
    process.exit(1)
    assert said(channel) == ""


async def test_an_error_that_comes_in_pieces_is_told_whole_also_without_an_end(
    channel: Channel[FromWorker], clock: Clock, process: FakeProcess
) -> None:
    for piece in (b"INFO gateway: it listens\nKey", b"Error: ", b"'colour'"):
        clock.now += 2 * LAST_WORDS_S
        channel.errors(piece)
    assert said(channel) == ": KeyError: 'colour'"
    process.exit(1)
    assert said(channel) == ": KeyError: 'colour'"


async def test_one_that_was_killed_has_said_nothing_of_its_end(
    channel: Channel[FromWorker], process: FakeProcess
) -> None:
    channel.errors(b"KeyError: 'colour'\n")
    assert said(channel) == ": KeyError: 'colour'", "while it starts, all that it said belongs to that"
    process.exit(-9)
    assert said(channel) == ""
