"""Rows R16 and R17 at the module's door: what costs time is not asked without end, a bug ends one request."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from support.fake_pool import FakeLoaded, FakePool
from support.peer import connected
from support.pool_bench import MakeBench
from support.raw_frames import TEXT, frame, raw_websocket
from support.served_bench import over, working
from support.serving import serving

from waifu_llm.config import LimitSettings
from waifu_llm.server import kept as kept_module
from waifu_llm.server.kept import Kept
from waifu_llm.session import Session
from waifu_worker import wire

# Lists that are asked for again and again (R17).


def test_r17_what_costs_time_is_read_again_only_after_a_few_times_that_time() -> None:
    now, reads = [100.0], []

    def read() -> int:
        now[0] += 0.05
        reads.append(now[0])
        return len(reads)

    kept = Kept(read, lambda: now[0], lambda: now[0])
    assert [kept.get() for _ in range(1000)] == [1] * 1000
    now[0] += 0.19
    assert kept.get() == 1
    now[0] += 0.02
    assert kept.get() == 2


def test_r17_what_other_programs_do_while_it_is_read_does_not_make_an_answer_stale() -> None:
    now, cpu = [100.0], [1.0]

    def read() -> float:
        now[0] += 5.0
        cpu[0] += 0.01
        return now[0]

    kept = Kept(read, lambda: now[0], lambda: cpu[0])
    assert kept.get() == 105.0
    now[0] += 0.05
    assert kept.get() == 110.05


def test_r17_what_could_not_be_read_is_tried_again() -> None:
    answers: list[Any] = [OSError("not now"), "well"]

    def read() -> str:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return str(answer)

    kept = Kept(read, lambda: 0.0, lambda: 0.0)
    with pytest.raises(OSError, match="not now"):
        kept.get()
    assert kept.get() == "well"


async def test_r17_a_flood_of_questions_is_answered_from_what_was_read_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "_KEPT_FOR", 10**9)
    pool = CountingPool()
    async with serving(pool) as running, connected(running.url) as peer:
        for kind in ("get_providers", "get_stats"):
            for n in range(500):
                await peer.say(kind, n)
            for n in range(500):
                (done,) = await peer.hear_types(f"{kind}_done")
                assert done["unique_request_id"] == n
    assert pool.asked == {"providers": 1, "workers": 1, "environments": 1}


class CountingPool(FakePool):
    def __init__(self) -> None:
        super().__init__()
        self.asked = Counter[str]()

    def providers(self) -> Any:
        self.asked["providers"] += 1
        return super().providers()

    def workers(self) -> Any:
        self.asked["workers"] += 1
        return super().workers()

    def environments(self) -> Any:
        self.asked["environments"] += 1
        return super().environments()


class Turns:
    """Counts the turns of the loop, until it is over."""

    def __init__(self) -> None:
        self.count = 0
        self.over = False
        self._turn()

    def _turn(self) -> None:
        self.count += 1
        if not self.over:
            asyncio.get_running_loop().call_soon(self._turn)


async def test_r17_for_whom_thousands_of_messages_wait_the_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waifu_llm.server.writer._WRITE_FOR_S", 0.0)
    monkeypatch.setattr("waifu_llm.server.writer._WRITE_BYTES", 1)  # each message is a write of its own
    async with serving() as running, connected(running.url) as peer:
        running.pool.last = FakeLoaded("echo")
        await peer.generate("g")
        generation = await running.pool.generations.get()
        turns = Turns()
        for n in range(100):
            generation.chunk(f"{n} ")
        text = "".join([(await peer.hear())["chunk"] for _ in range(100)])
        turns.over = True
    assert text == "".join(f"{n} " for n in range(100))
    assert turns.count >= 100


async def test_r17_who_sends_frames_that_cost_time_lets_the_others_in_between_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("waifu_llm.server.connection._READ_FOR_S", 0.0)
    turns = Turns()
    async with serving() as running, raw_websocket(running.host, running.port) as raw:
        payloads = [json.dumps({"type": "get_stats", "unique_request_id": n}).encode() for n in range(20)]
        raw.send(*(frame(TEXT, payload) for payload in payloads))
        before = turns.count
        for n in range(20):
            assert (await raw.hear_reply())["unique_request_id"] == n
        assert turns.count - before >= 20
        turns.over = True


# A bug of ours on the way of a text (R16).


async def test_r16_a_bug_in_one_requests_text_ends_that_request_and_no_other_of_its_worker(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limits = LimitSettings()
    bench = make_bench(limits=limits)
    hand_on = Session.chunks

    def chunks(session: Session, ticket: Any, texts: Sequence[str]) -> Any:
        if "the bug" in texts:
            raise ValueError(texts)
        return hand_on(session, ticket, texts)

    monkeypatch.setattr(Session, "chunks", chunks)
    async with over(bench, limits) as url, working(bench) as worker, connected(url) as peer:
        for name in ("unlucky", "lucky"):
            await peer.generate(name, stream=True)
        await worker.has(2)
        unlucky, lucky = (asked.id for asked in worker.waiting)
        # In one read of the pipe.
        worker.process.say(
            wire.Chunk(id=lucky, texts=("one ",)),
            wire.Chunk(id=unlucky, texts=("the bug",)),
            wire.Chunk(id=lucky, texts=("two",)),
            wire.Done(id=lucky),
        )
        heard: dict[str, Any] = {"lucky": "", "unlucky": ""}
        ends: dict[str, str] = {}
        while len(ends) < 2:
            reply = await peer.hear()
            if reply["type"] == "generate_stream_done":
                ends[reply["unique_request_id"]] = reply["error"]
            else:
                heard[reply["unique_request_id"]] += reply["chunk"]
        assert heard == {"lucky": "one two", "unlucky": ""}
        assert ends == {"lucky": "SUCCESS", "unlucky": "UNEXPECTED"}
    assert "the bug" in caplog.text


async def test_r16_an_end_that_breaks_is_an_end_all_the_same(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = LimitSettings()
    bench = make_bench(limits=limits)

    def ended(session: Session, ticket: Any, ending: Any) -> Any:
        raise ValueError("a bug")

    async with over(bench, limits) as url, working(bench) as worker, connected(url) as peer:
        await peer.generate("g", stream=False)
        await worker.has(1)
        monkeypatch.setattr(Session, "generation_ended", ended)
        worker.answer()
        (done,) = await peer.hear_types("generate_done")
        assert (done["error"], "ValueError" in done["message"]) == ("UNEXPECTED", True)
        assert bench.pool._admission.running == 0
