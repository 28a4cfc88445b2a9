"""W2 to W5, W17, W19 to W21: whole generations over workers in memory, on the test's clock."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.fake_process import FakeProcess
from support.virtual_loop import VirtualLoop
from support.waiting import WAIT_S, bounded, until
from support.whole_module import FakeClient, WholeModule, turns

from waifu_llm import log
from waifu_llm.supervision import life
from waifu_llm.supervision.channel import BAD_LINES, BAD_LINES_WINDOW_S
from waifu_llm.supervision.life import Life
from waifu_llm.supervision.supervisor import Supervisor
from waifu_worker import wire

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def module(tmp_path: Path) -> AsyncIterator[WholeModule]:
    made = WholeModule(tmp_path)
    yield made
    async with bounded():
        await made.end()


def now() -> float:
    return asyncio.get_running_loop().time()


def log_of(module: WholeModule) -> str:
    return (module.bench.folder / "logs" / "fake.log").read_text("utf-8")


async def ended(client: FakeClient, request_id: str) -> dict[str, object]:
    """Its terminal message, when it is there."""
    await until(lambda: bool(client.ends(request_id)), f"{request_id} has ended")
    (end,) = client.ends(request_id)
    return end


async def is_killed(process: FakeProcess) -> None:
    """Wait for it, any time of this clock."""
    await until(lambda: process.ended, "it is killed")


async def reloaded(module: WholeModule) -> FakeProcess:
    process = await module.bench.spawn.loaded("m")
    await turns(20)
    return process


# W2: a crash loop, with the settings as they are.


async def test_w2_five_deaths_within_180_s_without_a_word_and_it_stays_down_until_the_next_load(
    module: WholeModule,
) -> None:
    client = module.connect()
    process = await module.loaded(client)
    begin = now()
    for number in range(5):
        client.generate(f"g{number}")
        if number:
            process = await reloaded(module)
        await process.next_sent(wire.Generate)
        if number == 4:
            await asyncio.sleep(begin + 179.9 - now())
            process.say(wire.Beat())
        process.exit(1)
        end = await ended(client, f"g{number}")
        assert (end["error"], end["reason"]) == ("UNEXPECTED", "worker_crashed")
        if not number:
            begin = now()
    client.generate("refused")
    end = await ended(client, "refused")
    assert (end["error"], end["reason"]) == ("UNEXPECTED", "worker_crashed")
    assert "restart limit is used up: load fake again" in str(end["message"])
    assert module.bench.spawn.count == 5
    client.load("again")
    await reloaded(module)
    assert (await ended(client, "again"))["error"] == "SUCCESS"


async def test_w2_five_deaths_in_more_than_180_s_are_no_loop(module: WholeModule) -> None:
    client = module.connect()
    process = await module.loaded(client)
    begin = now()
    for number in range(5):
        client.generate(f"g{number}")
        if number:
            process = await reloaded(module)
        await process.next_sent(wire.Generate)
        while number == 4 and now() < begin + 180.1:
            process.say(wire.Beat())
            await asyncio.sleep(min(5.0, begin + 180.2 - now()))
        process.exit(1)
        await ended(client, f"g{number}")
    client.generate("served")
    process = await reloaded(module)
    process.say(wire.Done(id=(await process.next_sent(wire.Generate)).id))
    assert (await ended(client, "served"))["error"] == "SUCCESS"


# W3: a worker that hangs.


@pytest.mark.parametrize("stream", [False, True])
async def test_w3_a_request_that_hangs_ends_at_its_time_and_the_worker_2_s_later(
    module: WholeModule, stream: bool
) -> None:
    client, other = module.connect(), module.connect()
    process = await module.loaded(client)
    other.load("other")
    await turns(20)
    other.generate("long")
    await process.next_sent(wire.Generate)
    begin = now()
    await module.generating(client, process, "g", stream=stream, timeout_ms=5000)
    end = await ended(client, "g")
    assert end["error"] == "TIMEOUT"
    assert 5.0 <= now() - begin <= 5.25
    await process.next_sent(wire.Cancel)
    await asyncio.sleep(begin + 6.9 - now())
    assert not process.ended
    await is_killed(process)
    assert 6.99 <= now() - begin <= 7.25
    end = await ended(other, "long")
    assert (end["error"], end["reason"]) == ("UNEXPECTED", "worker_crashed")
    assert "did not stop a request within 2 s" in str(end["message"])


async def test_w3_a_chunk_starts_the_time_of_a_stream_again(module: WholeModule) -> None:
    client = module.connect()
    process = await module.loaded(client)
    begin = now()
    request = await module.generating(client, process, "g", stream=True, timeout_ms=5000)
    for number in range(3):
        await asyncio.sleep(4.9)
        process.say(wire.Beat(), wire.Chunk(id=request, texts=(f"{number} ",)))
    assert (await ended(client, "g"))["error"] == "TIMEOUT"
    assert 19.7 <= now() - begin <= 19.95
    assert client.text("g") == "0 1 2 "


# W4: a worker without a sign of life.


async def test_w4_a_silent_worker_is_killed_after_30_s_and_the_request_ends(module: WholeModule) -> None:
    client = module.connect()
    process = await module.loaded(client)
    begin = now()
    await module.generating(client, process, "g")
    end = await ended(client, "g")
    assert (end["error"], end["reason"]) == ("UNEXPECTED", "worker_crashed")
    assert "no sign of life for 30 s" in str(end["message"])
    assert 30.0 <= now() - begin <= 30.0 + life.WATCH_INTERVAL_S + 0.25
    assert process.kills == 1


async def test_w4_while_a_load_runs_on_it_silence_means_nothing_and_a_timeout_ends_the_rest(
    module: WholeModule,
) -> None:
    client, other = module.connect(), module.connect()
    process = await module.loaded(client)
    other.load("pull", num_ctx=5, preload_model_id="large")
    load = await process.next_sent(wire.Load)
    process.say(wire.Progress(id=load.id, stage="model", detail="pulling"))
    client.generate("g", timeout_ms=120_000)
    await process.next_sent(wire.Generate)
    assert (await ended(client, "g"))["error"] == "TIMEOUT"
    await is_killed(process)
    assert "did not stop a request" in str((await ended(other, "pull"))["message"])


# W5: lines that are no messages.


@pytest.mark.parametrize(
    ("count", "every", "is_killed"),
    [(BAD_LINES - 1, 0.01, False), (BAD_LINES, 0.01, True), (BAD_LINES + 50, BAD_LINES_WINDOW_S / 98.5, False)],
)
async def test_w5_so_many_bad_lines_in_so_short_a_time_end_a_worker_and_others_disturb_no_request(
    module: WholeModule, count: int, every: float, is_killed: bool
) -> None:
    client, other = module.connect(), module.connect()
    process = await module.loaded(client)
    other.load("other")
    await turns(20)
    first = await module.generating(client, process, "g", stream=True)
    second = await module.generating(other, process, "h", stream=True)
    for number in range(count):
        process.write_raw(b"Loading weights: %d/100\n" % number)
        process.say(wire.Chunk(id=first, texts=(f"{number} ",)), wire.Chunk(id=second, texts=(f"{number}|",)))
        await asyncio.sleep(every)
    assert process.ended is is_killed
    if not is_killed:
        process.say(wire.Done(id=first), wire.Done(id=second))
    heard = count - is_killed
    for who, request_id, mark in ((client, "g", " "), (other, "h", "|")):
        end = await ended(who, request_id)
        assert end["error"] == ("UNEXPECTED" if is_killed else "SUCCESS")
        assert who.text(request_id) == "".join(f"{number}{mark}" for number in range(heard))


async def test_w5_a_bad_line_is_logged_cut_and_without_keys(module: WholeModule, canary: str) -> None:
    client = module.connect()
    client.say("load", "load", provider="fake", api_key=canary)
    process = await module.bench.spawn.loaded("m")
    await turns(20)
    process.write_raw(b"Authorization: Bearer " + canary.encode() + b" " + b"x" * 5000 + b"\n")
    await module.end()
    assert await asyncio.to_thread(log.flush, WAIT_S)
    (line,) = [line for line in log_of(module).splitlines() if "no message" in line]
    assert canary not in line
    assert len(line) < 400


# W17: a slow start.


async def test_w17_a_load_ends_at_its_own_time_while_the_start_goes_on_for_who_still_waits(
    module: WholeModule,
) -> None:
    hasty, patient = module.connect(), module.connect()
    begin = now()
    hasty.load("hasty", timeout_ms=10_000)
    patient.load("patient", timeout_ms=50_000)
    process = await module.bench.spawn.next_process()
    assert (await ended(hasty, "hasty"))["error"] == "TIMEOUT"
    assert now() - begin <= 10.25
    await asyncio.sleep(30)
    process.greet()
    load = await process.next_sent(wire.Load)
    process.say(wire.Done(id=load.id, models=()))
    assert (await ended(patient, "patient"))["error"] == "SUCCESS"
    assert module.bench.spawn.count == 1


async def test_w17_a_start_without_an_end_is_given_up_after_its_time(module: WholeModule) -> None:
    client = module.connect()
    client.load("load")
    process = await module.bench.spawn.next_process()
    begin = now()
    end = await ended(client, "load")
    assert (end["error"], end["reason"]) == ("UNEXPECTED", "start_failed")
    assert "not ready within 60 s" in str(end["message"])
    assert now() - begin <= 60.25
    assert process.ended


# W19 to W21: answers that nobody asked for.


async def test_w19_answers_to_unknown_finished_and_foreign_requests_are_dropped_told_once_and_counted(
    module: WholeModule,
) -> None:
    client, other = module.connect(), module.connect()
    process = await module.loaded(client)
    stranger = await module.loaded(other, base_url="http://localhost:1")
    finished = await module.generating(client, process, "finished")
    process.say(wire.Done(id=finished))
    request = await module.generating(client, process, "g", stream=True)
    foreign = await module.generating(other, stranger, "h", stream=True)
    for stray in (finished, foreign, 987_654_321):
        process.say(
            wire.Chunk(id=stray, texts=("stray",)),
            wire.Progress(id=stray, stage="model", detail="stray"),
            wire.Failed(id=stray, error=wire.Code.UNEXPECTED, message="stray"),
            wire.Done(id=stray),
        )
    process.say(wire.Chunk(id=request, texts=("mine",)), wire.Done(id=request))
    stranger.say(wire.Chunk(id=foreign, texts=("its own",)), wire.Done(id=foreign))
    assert (await ended(client, "g"))["error"] == "SUCCESS"
    assert (await ended(other, "h"))["error"] == "SUCCESS"
    assert (client.text("g"), other.text("h")) == ("mine", "its own")
    process.exit(0)
    assert await asyncio.to_thread(log.flush, WAIT_S)
    told = [line.partition("[core] ")[2] for line in log_of(module).splitlines() if "request" in line]
    assert told == [
        f"an answer to request {finished}, which it does not have; others are counted",
        "12 answers to requests that it did not have",
    ]


async def test_w20_of_two_ends_the_first_counts_and_what_comes_after_it_is_not_heard(module: WholeModule) -> None:
    client = module.connect()
    process = await module.loaded(client)
    request = await module.generating(client, process, "g", stream=True)
    process.say(
        wire.Chunk(id=request, texts=("first",)),
        wire.Done(id=request, finish_reason="stop"),
        wire.Chunk(id=request, texts=("late",)),
        wire.Failed(id=request, error=wire.Code.UNEXPECTED, message="late"),
        wire.Done(id=request),
    )
    end = await ended(client, "g")
    assert end["error"] == "SUCCESS"
    await turns(20)
    assert (client.text("g"), len(client.ends("g"))) == ("first", 1)


async def test_w21_what_a_process_that_was_replaced_still_says_is_nobodys(module: WholeModule) -> None:
    client = module.connect()
    old = await module.loaded(client)
    old.exit(1)
    client.generate("g", stream=True)
    process = await reloaded(module)
    request = (await process.next_sent(wire.Generate)).id
    old._events.output(b'{"type":"chunk","id":%d,"texts":["old"]}\n{"type":"done","id":%d}\n' % (request, request))
    old._events.exited(0)
    process.say(wire.Chunk(id=request, texts=("new",)), wire.Done(id=request))
    assert (await ended(client, "g"))["error"] == "SUCCESS"
    assert client.text("g") == "new"


# R16: an error of ours.


async def test_r16_an_error_of_ours_with_one_message_loses_none_of_those_behind_it(
    module: WholeModule, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = module.connect()
    process = await module.loaded(client)
    request = await module.generating(client, process, "g", stream=True)
    received = Supervisor.received

    def broken(supervisor: Supervisor, life: Life[wire.FromWorker], message: wire.FromWorker) -> None:
        if isinstance(message, wire.Progress):
            raise ZeroDivisionError
        received(supervisor, life, message)

    monkeypatch.setattr(Supervisor, "received", broken)
    process.say(
        wire.Progress(id=request, stage="model", detail="fatal"),
        wire.Chunk(id=request, texts=("heard",)),
        wire.Done(id=request),
    )
    assert (await ended(client, "g"))["error"] == "SUCCESS"
    assert client.text("g") == "heard"
    assert "ZeroDivisionError" in caplog.text


# R13: time that jumps.


async def test_r13_after_a_jump_of_the_clock_workers_and_requests_live_on(module: WholeModule) -> None:
    client, other = module.connect(), module.connect()
    process = await module.loaded(client)
    second = await module.loaded(other, base_url="http://localhost:1")
    request = await module.generating(client, process, "g", stream=True)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    for _ in range(3):
        process.say(wire.Beat())
        second.say(wire.Beat())
        await asyncio.sleep(1)
        loop.jump(3600.0)
        await asyncio.sleep(20)
    assert not process.ended
    assert not second.ended
    process.say(wire.Chunk(id=request, texts=("still here",)), wire.Done(id=request))
    assert (await ended(client, "g"))["error"] == "SUCCESS"
    begin = now()
    await is_killed(process)
    assert now() - begin <= life.SILENCE_S + 2 * life.WATCH_INTERVAL_S


async def test_r13_a_cancel_that_a_sleeping_machine_held_up_kills_nobody(module: WholeModule) -> None:
    client = module.connect()
    process = await module.loaded(client)
    request = await module.generating(client, process, "g")
    client.say("interrupt", "i", target_request_id="g")
    await process.next_sent(wire.Cancel)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.jump(3600.0)
    await turns(5)
    assert not process.ended
    process.say(wire.Failed(id=request, error=wire.Code.INTERRUPT, message="cancelled"))
    await asyncio.sleep(10)
    assert not process.ended


async def test_r13_a_start_that_a_sleeping_machine_held_up_is_waited_for_once_more(module: WholeModule) -> None:
    client = module.connect()
    client.load("load")
    process = await module.bench.spawn.next_process()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.jump(3600.0)
    await turns(20)
    assert client.ends("load") == []
    process.greet()
    load = await process.next_sent(wire.Load)
    process.say(wire.Done(id=load.id, models=()))
    assert (await ended(client, "load"))["error"] == "SUCCESS"


async def test_r13_the_time_of_day_moves_nothing(module: WholeModule, monkeypatch: pytest.MonkeyPatch) -> None:
    client = module.connect()
    process = await module.loaded(client)
    with monkeypatch.context() as later:
        later.setattr("time.time", lambda: 4e9)
        request = await module.generating(client, process, "g", timeout_ms=1000)
        process.say(wire.Beat())
        await asyncio.sleep(0.9)
        process.say(wire.Done(id=request))
        assert (await ended(client, "g"))["error"] == "SUCCESS"
    assert not process.ended
