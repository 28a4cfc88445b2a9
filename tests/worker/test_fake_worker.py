"""The fake worker does what its flags say: the tests of the core lean on that."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.puppet import Liveness, liveness, puppet
from support.waiting import bounded, until
from support.worker_process import FAKE, WorkerProcess, make_seed, running

from waifu_worker.wire import (
    Cancel,
    ChatMessage,
    Chunk,
    Code,
    Done,
    Failed,
    Generate,
    Load,
    Models,
    OptionValue,
    Params,
    Progress,
)


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    return make_seed(tmp_path / "fake", FAKE)


@pytest.fixture
def fake(seed: Path) -> Iterator[WorkerProcess]:
    with running(seed) as worker:
        worker.send(Load(id=1, ctx=1))
        worker.until_end(1)
        yield worker


def ask(model_id: str, request_id: int = 2, ctx: int = 1) -> Generate:
    said = (ChatMessage(role="user", content="hello there", name="Bob"),)
    return Generate(id=request_id, ctx=ctx, params=Params(model_id=model_id), messages=said, stream=True)


def rest(worker: WorkerProcess) -> bytes:
    """All that it still writes before it ends."""
    data = b""
    while part := worker.output.read(1 << 20):
        data += part
    return data


def spoken(*texts: str) -> bytes:
    return b"".join(b'{"type":"chunk","id":2,"texts":["%b"]}\n' % text.encode() for text in texts)


@pytest.mark.parametrize(
    ("model_id", "code"), [("exit=2", 3), ("kill=2", -signal.SIGKILL), ("segfault=2", -signal.SIGSEGV)]
)
def test_it_dies_after_so_many_chunks(fake: WorkerProcess, model_id: str, code: int) -> None:
    fake.send(ask(model_id))
    assert rest(fake) == spoken("0 ", "1 ")
    assert fake.wait() == code


def test_it_dies_at_its_nth_generation(fake: WorkerProcess) -> None:
    fake.send(ask("die-at=2"))
    assert fake.until_end(2)[0] == "hello there"
    fake.send(ask("die-at=2", 3))
    assert rest(fake) == b""
    assert fake.wait() == 3


def test_it_leaves_half_a_line(fake: WorkerProcess) -> None:
    fake.send(ask("half-line"))
    assert rest(fake) == b'{"type":"chunk","id":'


def test_it_writes_a_line_of_any_length_and_one_without_an_end(fake: WorkerProcess) -> None:
    fake.send(ask("line=100000"))
    data = b""
    while data.count(b"\n") < 4:
        data += fake.output.read(1 << 20)
    assert data.startswith(b"x" * 100_000 + b"\n" + spoken("hello ", "there"))
    fake.send(ask("endless", 3))
    endless = b""
    while len(endless) < 1 << 20:
        endless += fake.output.read(1 << 20)
    assert set(endless) == {ord("x")}


@pytest.mark.parametrize(
    ("model_id", "between"),
    [
        ("garbage=2", b"Loading weights: 100%|####| 12/12\n"),
        ("bad-utf8=2", b'{"type":"chunk","id":1,"texts":["\xff\xfe\x80"]}\n'),
        ("strangers=2", b'{"type":"chunk","id":987654321,"texts":["stranger"]}\n{"type":"done","id":987654321}\n'),
    ],
)
def test_it_puts_other_lines_between_the_chunks(fake: WorkerProcess, model_id: str, between: bytes) -> None:
    fake.send(ask(model_id))
    expected = between + spoken("0 ") + between + spoken("1 ")
    data = b""
    while len(data) < len(expected):
        data += fake.output.read(1 << 20)
    assert data.startswith(expected)


def test_it_ends_twice_and_goes_on(fake: WorkerProcess) -> None:
    fake.send(ask("two-ends"))
    assert [fake.next() for _ in range(5)] == [
        Done(id=2),
        Chunk(id=2, texts=("late",)),
        Done(id=2),
        Chunk(id=2, texts=("hello ",)),
        Chunk(id=2, texts=("there",)),
    ]


@pytest.mark.parametrize(
    ("model_id", "end"),
    [
        ("fail=AUTHORIZATION/quota", (Code.AUTHORIZATION, "quota")),
        ("raise", (Code.UNEXPECTED, None)),
        ("memory", (Code.UNEXPECTED, "out_of_memory")),
        ("truncate=2", (Code.UNEXPECTED, "truncated")),
        ("no-such-model", (Code.INVALID_MODEL, None)),
    ],
)
def test_it_fails_as_asked(fake: WorkerProcess, model_id: str, end: tuple[Code, str | None]) -> None:
    fake.send(ask(model_id))
    _, failed = fake.until_end(2)
    assert isinstance(failed, Failed)
    assert (failed.error, failed.reason) == end


@pytest.mark.parametrize(
    ("model_id", "text"),
    [
        ("text=a|b\n|c", "ab\nc"),
        ("size=1000", "x" * 1000),
        ("noise", "hello there"),
        ("flood-stderr=300000", "hello there"),
    ],
)
def test_it_says_what_it_is_told(fake: WorkerProcess, model_id: str, text: str) -> None:
    fake.send(ask(model_id))
    said, end = fake.until_end(2)
    assert isinstance(end, Done)
    assert said == text


@pytest.mark.parametrize(
    ("on_load", "end"),
    [
        ("fail=AUTHORIZATION", (Code.AUTHORIZATION, None)),
        ("memory", (Code.UNEXPECTED, "out_of_memory")),
        ("raise", (Code.UNEXPECTED, None)),
    ],
)
def test_a_load_fails_as_asked(fake: WorkerProcess, on_load: str, end: tuple[Code, str | None]) -> None:
    fake.send(Load(id=2, ctx=2, options={"on_load": on_load}))
    _, failed = fake.until_end(2)
    assert isinstance(failed, Failed)
    assert (failed.error, failed.reason) == end


def test_a_load_reports_warns_and_knows_what_it_got(fake: WorkerProcess) -> None:
    options: dict[str, OptionValue] = {"on_load": "progress=2", "num_ctx": 8}
    fake.send(Load(id=2, ctx=2, api_key="a key of mine", options=options))
    assert fake.next() == Progress(id=2, stage="provider", detail="step 0", fraction=0.5)
    assert fake.next() == Progress(id=2, stage="provider", detail="step 1", fraction=1.0)
    assert isinstance(fake.next(), Done)
    fake.send(ask("ids", 3, ctx=2))
    assert fake.until_end(3)[0] == '{"has_key": true, "options": {"num_ctx": 8, "on_load": "progress=2"}}'
    fake.send(Load(id=4, ctx=3, options={"on_load": "warn=careful"}))
    _, done = fake.until_end(4)
    assert isinstance(done, Done)
    assert done.warning == "careful"


def test_a_preload_of_an_unknown_model_fails(fake: WorkerProcess) -> None:
    fake.send(Load(id=2, ctx=2, preload_model_id="no-such-model"))
    assert isinstance(fake.next(), Progress)
    failed = fake.next()
    assert isinstance(failed, Failed)
    assert failed.error == Code.INVALID_MODEL


def test_the_model_list_grows_where_it_should(fake: WorkerProcess) -> None:
    fake.send(Load(id=2, ctx=2, options={"on_models": "grow"}))
    fake.until_end(2)
    for length in (2, 3):
        fake.send(Models(id=length, ctx=2))
        _, done = fake.until_end(length)
        assert isinstance(done, Done)
        assert done.models is not None
        assert len(done.models) == length


def test_what_ignores_a_cancel_does_not_end(fake: WorkerProcess) -> None:
    fake.send(ask("ignore-cancel=1"))
    assert fake.next() == Chunk(id=2, texts=("0 ",))
    fake.send(Cancel(id=2), ask("echo", 3))
    assert fake.until_end(3)[0] == "hello there"


async def test_it_stops_itself(fake: WorkerProcess) -> None:
    fake.send(ask("stop=1"))
    assert fake.next() == Chunk(id=2, texts=("0 ",))
    process = psutil.Process(fake.process.pid)
    await until(lambda: process.status() == psutil.STATUS_STOPPED, "it has stopped")


async def test_what_is_deaf_reads_nothing_any_more(fake: WorkerProcess) -> None:
    fake.send(ask("deaf=1"))
    assert fake.next() == Chunk(id=2, texts=("0 ",))
    os.set_blocking(fake.input.fileno(), False)
    line = b"x" * 65536
    # A full pipe that never empties again: three refusals in a row, a full poll of the reader apart.
    refused = 0
    async with bounded():
        while refused < 3:
            if fake.input.write(line) is None:
                refused += 1
                await asyncio.sleep(0.01)
            else:
                refused = 0
    assert fake.process.poll() is None


@pytest.mark.parametrize("start", ["ignore-term", "ignore-eof"])
def test_it_ignores_what_should_end_it(seed: Path, start: str) -> None:
    with running(seed, env={"WAIFU_FAKE_START": start}) as worker:
        if start == "ignore-term":
            worker.process.send_signal(signal.SIGTERM)
            worker.send(Load(id=1, ctx=1))
            assert isinstance(worker.until_end(1)[1], Done)
        else:
            worker.input.close()
            assert worker.process.poll() is None


async def test_the_puppet_does_each_thing_when_the_test_says_so(fake: WorkerProcess) -> None:
    async with puppet() as hand:
        fake.send(Load(id=2, ctx=2, options={"puppet": hand.address, "on_load": "puppet"}))
        loading = await hand.strand()
        assert loading.hello == {"event": "load", "pid": fake.process.pid}
        loading.go()
        await asyncio.to_thread(fake.until_end, 2)
        fake.send(ask("puppet", 3, ctx=2))
        strand = await hand.strand()
        assert strand.pid == fake.process.pid
        assert strand.hello["messages"] == [["user", "Bob", "hello there"]]
        await strand.chunk("one")
        assert await asyncio.to_thread(fake.next) == Chunk(id=3, texts=("one",))
        await strand.raw(b'{"type":"beat"}\n')
        await asyncio.to_thread(fake.next)
        await strand.finish("length")
        end = await asyncio.to_thread(fake.next)
        assert isinstance(end, Done)
        assert end.finish_reason == "length"


async def test_the_puppet_fails_is_cancelled_and_dies(fake: WorkerProcess) -> None:
    async with puppet() as hand:
        fake.send(Load(id=2, ctx=2, options={"puppet": hand.address}))
        await asyncio.to_thread(fake.until_end, 2)
        fake.send(ask("puppet", 3, ctx=2))
        (await hand.strand()).say("fail", code="TIMEOUT", reason="provider_timeout")
        _, failed = await asyncio.to_thread(fake.until_end, 3)
        assert isinstance(failed, Failed)
        assert (failed.error, failed.reason) == (Code.TIMEOUT, "provider_timeout")
        fake.send(ask("puppet", 4, ctx=2))
        strand = await hand.strand()
        fake.send(Cancel(id=4))
        await strand.cancelled()
        await asyncio.to_thread(fake.until_end, 4)
        fake.send(ask("puppet", 5, ctx=2))
        strand = await hand.strand()
        strand.say("signal", name="SIGKILL")
        await strand.closed()
        assert await asyncio.to_thread(fake.wait) == -signal.SIGKILL


async def test_a_start_waits_for_the_puppets_go(seed: Path) -> None:
    async with puppet() as hand:
        with running(seed, env={"WAIFU_FAKE_START": f"puppet={hand.address}"}, ready=False) as worker:
            strand = await hand.strand()
            assert strand.pid == worker.process.pid
            strand.go()
            await asyncio.to_thread(worker.next)
            worker.process.kill()
            await strand.closed()


@pytest.mark.parametrize("kind", ["child", "escaped-child"])
@pytest.mark.parametrize("when", ["start", "generation"])
async def test_its_child_outlives_it_with_the_pipes_in_its_hands(seed: Path, kind: str, when: str) -> None:
    async with liveness() as lives:
        env = {"WAIFU_FAKE_START": f"{kind}={lives.address}"} if when == "start" else {}
        with running(seed, env=env) as worker:
            worker.send(Load(id=1, ctx=1))
            await asyncio.to_thread(worker.until_end, 1)
            worker.send(ask("exit" if when == "start" else f"{kind}={lives.address}"))
            assert await asyncio.to_thread(worker.wait) == 3
            await _the_child_lives_and_is_killed(lives, worker)


async def _the_child_lives_and_is_killed(lives: Liveness, worker: WorkerProcess) -> None:
    one = await lives.born()
    os.set_blocking(worker.output.fileno(), False)
    assert worker.output.read(1) is None, "the pipe is still open"
    children = [
        process
        for process in psutil.process_iter(["cmdline"])
        if lives.address.rpartition(":")[2] in (process.info["cmdline"] or ())
    ]
    assert len(children) == 1
    children[0].kill()
    await lives.died(one)
