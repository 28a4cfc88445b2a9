"""Rows C13 and S19: each limit has a clear answer, binds one client before the others, and bounds the memory."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from support.fake_pool import FakeLoaded
from support.peer import PARAMS, USER, Peer, connected
from support.pool_bench import MakeBench, RecordingSink, job
from support.served_bench import GATEWAY, Worker, over, working
from support.serving import serving
from support.talk import Talk, sent, summary
from support.waiting import bounded
from websockets.asyncio.client import connect

from waifu_llm.config import LimitSettings

AS_GATEWAY: dict[str, Any] = {"additional_headers": {"Authorization": f"Bearer {GATEWAY}"}}


# A burst.


async def test_c13_ten_thousand_requests_of_one_client_end_once_each_and_a_neighbour_is_served_in_its_turn(
    make_bench: MakeBench,
) -> None:
    count, limits = 10_000, LimitSettings()
    bench = make_bench(limits=limits)
    process = psutil.Process()
    frames = [generation_frame(n) for n in range(count)]
    async with (
        over(bench, limits) as url,
        working(bench) as worker,
        connected(url) as neighbour,
        connect(url, max_queue=None) as greedy,
    ):
        before = process.memory_info().rss
        asking = asyncio.create_task(send_all(greedy.send, frames))
        await worker.has(limits.running)
        await neighbour.generate("n", stream=False)
        heard: Counter[int] = Counter()
        ended: list[Any] = []
        acks = 0
        while acks < count:
            acks += json.loads(await greedy.recv())["type"] == "generate_ack"
        await asking
        worker.answer()
        grown = process.memory_info().rss - before
        reading = asyncio.create_task(note_ends(neighbour, ended, 1))
        while heard.total() < count:
            reply = json.loads(await greedy.recv())
            assert (reply["type"], reply["error"]) == ("generate_done", "SUCCESS")
            heard[reply["unique_request_id"]] += 1
            ended.append(reply["unique_request_id"])
        await reading
    assert set(heard.values()) == {1}
    assert len(heard) == count
    # It came when all places were taken and thousands waited, and it was among the first to get a place.
    assert ended.index("n") < 2 * limits.running
    assert grown < 100_000_000


def generation_frame(unique_request_id: str | int, prompt: str = "hi") -> str:
    params = {**PARAMS, "timeout_ms": None}
    message = {"type": "generate", "unique_request_id": unique_request_id, "prompt": prompt, "params": params}
    return json.dumps(message)


async def send_all(send: Callable[[str], Any], frames: list[str]) -> None:
    for frame in frames:
        await send(frame)


async def note_ends(peer: Peer, ended: list[Any], count: int) -> None:
    for _ in range(count):
        (done,) = await peer.hear_types("generate_done")
        ended.append(done["unique_request_id"])


async def test_c13_the_first_request_of_a_neighbour_is_taken_though_one_client_has_filled_the_queue(
    make_bench: MakeBench,
) -> None:
    limits = LimitSettings(running=2, queued=6)
    bench = make_bench(limits=limits)
    async with over(bench, limits) as url, working(bench) as worker, connected(url) as greedy, connected(url) as modest:
        for n in range(10):
            await greedy.socket.send(generation_frame(n))
        acks, refused = await ends_of(greedy, acks=10, ends=2)
        assert acks == list(range(10))
        assert [(done["unique_request_id"], done["reason"]) for done in refused] == [(8, "busy"), (9, "busy")]
        for n in range(10):
            await modest.socket.send(generation_frame(n))
        _, theirs = await ends_of(modest, acks=10, ends=7)
        _, pushed = await ends_of(greedy, acks=0, ends=3)
        # The newest of the greedy one make room, until both have the same share.
        assert [done["unique_request_id"] for done in pushed] == [7, 6, 5]
        assert [done["unique_request_id"] for done in theirs] == [3, 4, 5, 6, 7, 8, 9]
        for done in (*refused, *theirs, *pushed):
            assert (done["error"], done["reason"], done["retry_after_ms"]) == ("UNEXPECTED", "busy", 1000)
            assert "try again later" in done["message"]
        worker.answer()
        for peer, ids in ((greedy, {0, 1, 2, 3, 4}), (modest, {0, 1, 2})):
            _, served = await ends_of(peer, acks=0, ends=len(ids))
            assert {done["unique_request_id"] for done in served if done["error"] == "SUCCESS"} == ids


async def ends_of(peer: Peer, *, acks: int, ends: int) -> tuple[list[int], list[dict[str, Any]]]:
    """So many acknowledgements and ends, in the order of each."""
    acknowledged: list[int] = []
    ended: list[dict[str, Any]] = []
    while len(acknowledged) < acks or len(ended) < ends:
        reply = await peer.hear()
        if reply["type"] == "generate_ack":
            acknowledged.append(reply["unique_request_id"])
        else:
            ended.append(reply)
    return acknowledged, ended


async def test_c13_a_gateway_has_no_share_of_one_client(make_bench: MakeBench) -> None:
    limits = LimitSettings(running=2, queued=6, requests=3)
    bench = make_bench(limits=limits)
    async with over(bench, limits) as url, working(bench) as worker, connected(url, **AS_GATEWAY) as gateway:
        for n in range(8):
            await gateway.socket.send(generation_frame(n))
        await ends_of(gateway, acks=8, ends=0)
        async with connected(url) as client:
            await client.socket.send(generation_frame("c"))
            _, (done,) = await ends_of(client, acks=1, ends=1)
            assert done["reason"] == "busy"
        worker.answer()
        _, served = await ends_of(gateway, acks=0, ends=8)
        assert {done["error"] for done in served} == {"SUCCESS"}


# Requests of one client.


def test_s19_one_client_has_so_many_requests_under_way_and_no_more() -> None:
    talk = Talk(limits=LimitSettings(requests=3))
    talk.shared = FakeLoaded("echo")
    for n in range(3):
        talk.generate(n)
    refused = sent(talk.say("generate", 3, messages=USER, params=PARAMS, stream=True))
    assert [reply["type"] for reply in refused] == ["generate_ack", "generate_stream_done"]
    assert (refused[1]["error"], refused[1]["reason"]) == ("UNEXPECTED", "busy")
    assert "3 requests under way" in refused[1]["message"]
    talk.session.interrupt_generations()
    talk.generate(3)


def test_s19_a_gateway_has_as_many_as_it_likes() -> None:
    talk = Talk(limits=LimitSettings(requests=3), limited=False)
    talk.shared = FakeLoaded("echo")
    for n in range(2000):
        talk.generate(n)
        talk.load(f"l{n}")


# Memory.


async def test_s19_prompts_that_wait_are_weighed_and_a_neighbour_still_has_room(make_bench: MakeBench) -> None:
    limits = LimitSettings(queued_bytes=1_000_000)
    bench = make_bench(limits=limits)
    async with over(bench, limits) as url, working(bench) as worker, connected(url) as heavy, connected(url) as light:
        worker.process.exit(0)
        bench.environments.ready.clear()  # the worker starts again, and is not there for a long time
        for n in range(10):
            await heavy.socket.send(generation_frame(n, "x" * 100_000))
        acks, refused = await ends_of(heavy, acks=10, ends=6)
        assert len(acks) == 10
        assert {done["reason"] for done in refused} == {"busy"}
        await light.socket.send(generation_frame("l", "x" * 100_000))
        await light.hear_types("generate_ack")
        bench.environments.ready.set()
        again = Worker(await bench.spawn.next_ready())
        await again.has(5)
        assert bench.pool._admission.memory == 0  # the worker has them now
        again.answer()
        (done,) = await light.hear_types("generate_done")
        assert done["error"] == "SUCCESS"
        again.stop()


async def test_s19_an_answer_that_is_not_streamed_ends_where_it_becomes_too_long() -> None:
    limits = LimitSettings(answer_bytes=1_000_000)
    async with serving(limits=limits) as running, connected(running.url, max_size=None) as peer:
        running.pool.last = FakeLoaded("echo")
        await peer.generate("whole", stream=False)
        whole = await running.pool.generations.get()
        await peer.generate("long", stream=False)
        long = await running.pool.generations.get()
        await peer.generate("streamed", stream=True)
        streamed = await running.pool.generations.get()
        for _ in range(10):
            whole.chunk("x" * 100_000)
        whole.end()
        (done,) = await peer.hear_types("generate_done")
        assert (done["error"], len(done["response"])) == ("SUCCESS", 1_000_000)
        for _ in range(2000):
            long.chunk("é" * 500)
        async with bounded():
            await long.cancelled.wait()
        long.end()
        (done,) = await peer.hear_types("generate_done")
        assert (done["error"], done["reason"], done["response"]) == ("UNEXPECTED", "truncated", "")
        assert "limits.answer_bytes" in done["message"]
        text = 0
        for _ in range(20):
            streamed.chunk("x" * 100_000)
        while text < 2_000_000:
            text += len((await peer.hear())["chunk"])


async def test_s19_a_worker_that_never_stops_talking_costs_no_more_than_the_limit() -> None:
    limits = LimitSettings(answer_bytes=2_000_000)
    process = psutil.Process()
    async with serving(limits=limits) as running, connected(running.url) as peer:
        running.pool.last = FakeLoaded("echo")
        await peer.generate("long", stream=False)
        generation = await running.pool.generations.get()
        before = process.memory_info().rss
        for n in range(200_000):
            generation.chunk(f"{n} and on and on ")
        assert process.memory_info().rss - before < 30_000_000
        (done,) = await peer.hear_types("generate_done")
        assert done["reason"] == "truncated"


async def test_s19_the_fields_of_a_load_are_few_and_short() -> None:
    async with serving() as running, connected(running.url) as peer:
        for fields in (
            {"base_url": "http://" + "x" * 100_000},
            {"preload_model_id": "m" * 100_000},
            {"a": ["b"] * 30_000},
        ):
            await peer.say("load", "l", provider="echo", **fields)
            _, done = await peer.hear_types("load_ack", "load_done")
            assert (done["error"], "65536 bytes" in done["message"]) == ("UNEXPECTED", True)
        assert running.pool.loads.empty()


async def test_s19_a_thousand_keys_are_not_a_thousand_workers(make_bench: MakeBench) -> None:
    limits = LimitSettings(workers=4)
    bench = make_bench(limits=limits)
    async with over(bench, limits) as url, connected(url) as peer:
        for n in range(1000):
            await peer.say("load", n, provider="fake", api_key=f"the-key-number-{n}")
        busy = Counter[str]()
        while busy.total() < 996:
            reply = await peer.hear()
            if reply["type"] == "load_done":
                busy[reply["reason"]] += 1
        assert busy == {"busy": 996}
        assert bench.spawn.count <= 4


def test_s19_what_is_over_is_not_counted_any_more() -> None:
    talk = Talk(limits=LimitSettings(requests=1))
    talk.shared = FakeLoaded("echo")
    for n in range(5):
        ticket = talk.generate(n)
        assert summary(talk.session.failed(ticket, talk.session._too_long()))[0][2] == "UNEXPECTED"


async def test_s19_a_pool_that_is_full_weighs_nothing_of_what_it_refused(make_bench: MakeBench) -> None:
    bench = make_bench(limits=LimitSettings(running=1, queued=1, queued_bytes=1000))
    async with working(bench):
        loaded = bench.pool.last_loaded
        assert loaded is not None
        bench.pool.generate(loaded, job("x" * 10), "a", RecordingSink())
        bench.pool.generate(loaded, job("x" * 20), "a", RecordingSink())
        for _ in range(3):
            with pytest.raises(Exception, match="wait already"):
                bench.pool.generate(loaded, job("x" * 30), "a", RecordingSink())
        assert bench.pool._admission.memory == 20
