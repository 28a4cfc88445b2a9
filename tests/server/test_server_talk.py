"""The server over real sockets: what a client says and hears, and in which order."""

import asyncio
import json
from typing import Any

import pytest
from support.fake_pool import FakeLoaded, FakePool
from support.peer import PARAMS, USER, Peer, connected
from support.serving import serving
from support.waiting import bounded

from waifu_client.protocol import ErrorCode
from waifu_llm.config import ServerSettings
from waifu_llm.errors import Busy, StartFailed, UnknownProvider
from waifu_llm.supervision.jobs import Ending, Job, Sink


async def test_a_client_loads_streams_and_generates() -> None:
    async with serving(FakePool(by_itself=True)) as running, connected(running.url) as peer:
        await peer.say("load", "1", provider="echo", progress=True)
        replies = await peer.hear_types("load_ack", "load_progress", "load_done")
        assert replies[1]["fraction"] == 0.5
        await peer.generate("2", stream=True)
        *chunks, done = await peer.hear_types(*["generate_stream_chunk"] * 3, "generate_stream_done")
        assert "".join(chunk["chunk"] for chunk in chunks) == "one two three"
        assert done["usage"]["completion_tokens"] == 3
        await peer.generate("3", stream=False)
        (done,) = await peer.hear_types("generate_done")
        assert done["response"] == "one two three"


async def test_a_load_is_acknowledged_while_it_goes_on() -> None:
    async with serving() as running, connected(running.url) as peer:
        await peer.say("load", "1", provider="echo")
        await peer.hear_types("load_ack")
        load = await running.pool.loads.get()
        await peer.say("get_providers", "2")
        (providers,) = await peer.hear_types("get_providers_done")
        assert providers["providers"] == ["echo", "openai"]
        load.fail(StartFailed("it did not start; see its log"))
        (done,) = await peer.hear_types("load_done")
        assert (done["error"], done["reason"], done["message"]) == (
            "UNEXPECTED",
            "start_failed",
            "it did not start; see its log",
        )


async def test_unreadable_frames_get_errors_and_the_connection_stays() -> None:
    async with serving() as running, connected(running.url) as peer:
        for frame in ("", "{", "[]", "5", '"x"', '{"type": "close"}', b"\xff", b"[]", "[" * 5000) * 20:
            await peer.socket.send(frame)
            (error,) = await peer.hear_types("error")
            assert (error["unique_request_id"], error["error"]) == ("", "UNEXPECTED")
        await peer.say("nonsense", 5)
        (error,) = await peer.hear_types("error")
        assert error["unique_request_id"] == 5


async def test_a_binary_frame_is_as_good_as_text() -> None:
    async with serving() as running, connected(running.url) as peer:
        await peer.socket.send(b'{"type": "get_providers", "unique_request_id": 7}')
        (done,) = await peer.hear_types("get_providers_done")
        assert done["unique_request_id"] == 7


async def test_two_frames_with_one_id_leave_the_first_request_alone() -> None:
    async with serving() as running, connected(running.url) as peer:
        running.pool.last = FakeLoaded("echo")
        await peer.generate("1")
        await peer.say("generate", "1", messages=USER, params=PARAMS)
        await peer.hear_types("error")
        generation = await running.pool.generations.get()
        generation.chunk("hi")
        generation.end()
        await peer.hear_types("generate_stream_chunk", "generate_stream_done")


async def test_the_same_id_on_two_connections_is_two_requests() -> None:
    async with serving() as running, connected(running.url) as one, connected(running.url) as two:
        running.pool.last = FakeLoaded("echo")
        await one.generate("1")
        await two.generate("1")
        first, second = await running.pool.generations.get(), await running.pool.generations.get()
        second.chunk("two")
        first.chunk("one")
        assert [(await peer.hear())["chunk"] for peer in (one, two)] == ["one", "two"]


async def test_an_interrupt_is_acknowledged_then_ends_what_runs_and_reaches_the_pool() -> None:
    async with serving() as running, connected(running.url) as peer:
        running.pool.last = FakeLoaded("echo")
        await peer.generate("1")
        generation = await running.pool.generations.get()
        generation.chunk("a")
        await peer.hear_types("generate_stream_chunk")
        await peer.say("interrupt", "2")
        ack, done = await peer.hear_types("interrupt_ack", "generate_stream_done")
        assert (ack["interrupted"], done["error"]) == (["1"], "INTERRUPT")
        assert generation.cancelled.is_set()


async def test_a_load_that_is_interrupted_stops_waiting() -> None:
    async with serving() as running, connected(running.url) as peer:
        await peer.say("load", "1", provider="echo")
        await peer.hear_types("load_ack")
        load = await running.pool.loads.get()
        await peer.say("interrupt", "2", target_request_id="1")
        await peer.hear_types("interrupt_ack", "load_done")
        async with bounded():
            await load.cancelled.wait()


async def test_a_request_that_is_interrupted_at_once_is_cancelled_at_the_pool() -> None:
    async with serving() as running, connected(running.url) as peer:
        running.pool.last = FakeLoaded("echo")
        frames = (
            {"type": "generate", "unique_request_id": "1", "messages": USER, "params": PARAMS},
            {"type": "interrupt", "unique_request_id": "2"},
        )
        # Both in one write: a worker that hears both at once never asks its provider.
        for frame in frames:
            peer.socket.protocol.send_text(json.dumps(frame).encode())
        peer.socket.transport.write(b"".join(peer.socket.protocol.data_to_send()))
        _, ack, done = await peer.hear_types("generate_ack", "interrupt_ack", "generate_done")
        assert (ack["interrupted"], done["error"]) == (["1"], "INTERRUPT")
        assert (await running.pool.generations.get()).cancelled.is_set()


class _HastyPool(FakePool):
    """Ends a generation before it has even handed it out."""

    def generate(self, loaded: object, job: Job, connection: object, sink: Sink) -> Any:
        generation = super().generate(loaded, job, connection, sink)
        generation.chunk("done")
        generation.end()
        return generation


async def test_a_generation_that_ends_while_it_is_handed_over_is_answered_and_not_cancelled() -> None:
    pool = _HastyPool()
    pool.last = FakeLoaded("echo")
    async with serving(pool) as running:
        async with connected(running.url) as peer:
            await peer.generate("1", stream=False)
            (done,) = await peer.hear_types("generate_done")
            assert done["response"] == "done"
        await running.server.drain()
        assert pool.order == ["generate echo"]


async def test_scope_all_stops_everybodys_generations() -> None:
    async with serving() as running, connected(running.url) as one, connected(running.url) as two:
        running.pool.last = FakeLoaded("echo")
        await one.generate("a")
        await two.generate("b", stream=False)
        await two.say("interrupt", "i", scope="all")
        ack, done = await two.hear_types("interrupt_ack", "generate_done")
        assert ack["interrupted"] == ["b", "a"]
        assert done["error"] == "INTERRUPT"
        (done,) = await one.hear_types("generate_stream_done")
        assert done["error"] == "INTERRUPT"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_timeout_ends_a_generation_and_reaches_the_pool(stream: bool) -> None:
    async with serving() as running, connected(running.url) as peer:
        running.pool.last = FakeLoaded("echo")
        await peer.generate("1", stream=stream, params={"model_id": "m", "timeout_ms": 20})
        generation = await running.pool.generations.get()
        done = await peer.hear()
        assert done["error"] == "TIMEOUT"
        assert generation.cancelled.is_set()


async def test_a_loads_timeout_leaves_the_build_to_the_pool() -> None:
    async with serving() as running, connected(running.url) as peer:
        await peer.say("load", "1", provider="echo", timeout_ms=20)
        (_, done) = await peer.hear_types("load_ack", "load_done")
        assert done["error"] == "TIMEOUT"
        load = await running.pool.loads.get()
        async with bounded():
            await load.cancelled.wait()


async def test_models_come_from_the_pool_and_in_time_even_where_it_is_late() -> None:
    async with serving() as running, connected(running.url) as peer:
        running.pool.last = FakeLoaded("echo")
        await peer.say("get_models", "1")
        (done,) = await peer.hear_types("get_models_done")
        assert done["models"] == done["providers"] == ["echo", "echo-slow"]
        running.pool.models_error = UnknownProvider("gone")
        await peer.say("get_models", "2")
        (done,) = await peer.hear_types("get_models_done")
        assert (done["error"], done["models"]) == ("INVALID_PROVIDER", [])
        running.pool.models_wait = asyncio.Event()
        await peer.say("get_models", "3")
        (done,) = await peer.hear_types("get_models_done")
        assert (done["error"], done["providers"]) == ("TIMEOUT", [])


async def test_an_unload_is_done_by_the_pool() -> None:
    async with serving() as running, connected(running.url) as peer:
        await peer.say("unload", "1", provider="echo")
        (done,) = await peer.hear_types("unload_done")
        assert (done["error"], running.pool.unloaded) == ("SUCCESS", ["echo"])
        await peer.say("unload", "2", provider="nobody")
        (done,) = await peer.hear_types("unload_done")
        assert done["error"] == "INVALID_PROVIDER"


async def test_stats_tell_what_ran() -> None:
    async with serving(FakePool(by_itself=True)) as running, connected(running.url) as peer:
        await peer.load()
        await peer.generate("1")
        await peer.hear_types(*["generate_stream_chunk"] * 3, "generate_stream_done")
        await peer.say("get_stats", "2")
        (stats,) = await peer.hear_types("get_stats_done")
        assert (stats["connections"], stats["workers"][0]["provider"]) == (1, "echo")
        assert stats["environments"] == [{"name": "echo", "state": "ready"}]
        counters = stats["counters"]["echo"]
        assert (counters["requests"], counters["chunks"]) == ({"SUCCESS": 1}, 3)
        assert sum(counters["total_ms"]["counts"]) == sum(counters["first_chunk_ms"]["counts"]) == 1


async def test_what_the_pool_refuses_is_told_with_its_reason() -> None:
    async with serving() as running, connected(running.url) as peer:
        running.pool.last = FakeLoaded("echo")
        running.pool.generate_error = Busy("too many at once; try again", retry_after_ms=100)
        await peer.generate("1")
        (done,) = await peer.hear_types("generate_stream_done")
        assert (done["error"], done["reason"], done["retry_after_ms"]) == ("UNEXPECTED", "busy", 100)


async def test_a_bug_of_ours_ends_the_request_and_not_the_connection(
    caplog: pytest.LogCaptureFixture, canary: str
) -> None:
    async with serving() as running, connected(running.url) as peer:
        pool, bug = running.pool, ValueError(canary)
        pool.last = FakeLoaded("echo")
        pool.generate_error = pool.models_error = pool.unload_error = pool.providers_error = bug
        await peer.generate("1")
        heard = [await peer.hear()]
        for kind in ("get_models", "unload", "get_providers"):
            await peer.say(kind, "2", provider="echo")
            heard.append(await peer.hear())
        await peer.say("load", "3", provider="echo")
        (await pool.loads.get()).fail(bug)
        heard += await peer.hear_types("load_ack", "load_done")
        assert [reply["type"] for reply in heard] == [
            "generate_stream_done",
            "get_models_done",
            "unload_done",
            "error",
            "load_ack",
            "load_done",
        ]
        assert {reply["error"] for reply in heard if "error" in reply} == {"UNEXPECTED"}
        assert canary not in json.dumps(heard)
        assert canary in caplog.text


async def test_a_failed_generation_is_told_without_the_key_and_the_text_stays_whole(canary: str) -> None:
    async with serving() as running, connected(running.url) as peer:
        running.redactor.add(canary)
        running.pool.last = FakeLoaded("echo")
        await peer.generate("1")
        generation = await running.pool.generations.get()
        generation.chunk(canary)
        generation.fail(ErrorCode.AUTHORIZATION, f"the key {canary} is refused")
        chunk, done = await peer.hear_types("generate_stream_chunk", "generate_stream_done")
        assert chunk["chunk"] == canary
        assert done["error"] == "AUTHORIZATION"
        assert canary not in done["message"]


async def test_clients_that_are_isolated_share_no_load() -> None:
    async with (
        serving(FakePool(by_itself=True), server=ServerSettings(isolate_clients=True)) as running,
        connected(running.url) as one,
        connected(running.url) as two,
    ):
        await one.load()
        await two.generate("1")
        (done,) = await two.hear_types("generate_stream_done")
        assert done["error"] == "INVALID_PROVIDER"


async def test_clients_that_are_not_isolated_share_the_load_that_came_last() -> None:
    async with (
        serving(FakePool(by_itself=True)) as running,
        connected(running.url) as one,
        connected(running.url) as two,
    ):
        await one.load()
        await two.generate("1", stream=False)
        (done,) = await two.hear_types("generate_done")
        assert done["error"] == "SUCCESS"


async def test_a_burst_of_requests_is_answered_each_once() -> None:
    count = 2000
    async with serving(FakePool(by_itself=True)) as running, connected(running.url) as peer:
        running.pool.last = FakeLoaded("echo")

        async def ask() -> None:
            for i in range(count):
                await peer.say("generate", i, messages=USER, params=PARAMS)

        asking = asyncio.create_task(ask())
        acks: list[int] = []
        dones: list[int] = []
        while len(dones) < count:
            reply = await peer.hear()
            (acks if reply["type"] == "generate_ack" else dones).append(reply["unique_request_id"])
        await asking
        assert acks == list(range(count))
        assert sorted(dones) == list(range(count))


async def test_chunks_of_many_streams_arrive_whole_and_in_order() -> None:
    async with serving() as running, connected(running.url) as peer:
        running.pool.last = FakeLoaded("echo")
        for i in range(20):
            await peer.generate(i)
        generations = [await running.pool.generations.get() for _ in range(20)]

        def flood() -> None:
            for n in range(200):
                for generation in generations:
                    generation.chunk(f"{n} ")
            for generation in generations:
                generation.end(Ending())

        flood()
        texts = dict.fromkeys(range(20), "")
        ended = 0
        while ended < 20:
            reply = await peer.hear()
            ended += reply["type"] == "generate_stream_done"
            texts[reply["unique_request_id"]] += reply.get("chunk", "")
        assert set(texts.values()) == {"".join(f"{n} " for n in range(200))}


async def _order(peer: Peer, *requests: tuple[str, dict[str, Any]]) -> list[str]:
    for i, (kind, fields) in enumerate(requests):
        await peer.say(kind, i, **fields)
    return [(await peer.hear())["type"] for _ in requests]


async def test_what_published_clients_wait_a_second_for_needs_no_worker() -> None:
    """An install that goes on, a generation that says nothing: acks and lists come before anything ends."""
    async with serving() as running, connected(running.url) as peer:
        running.pool.last = FakeLoaded("echo")
        generate = {"messages": USER, "params": {"model_id": "m", "timeout_ms": 0}}
        order = await _order(
            peer,
            ("load", {"provider": "openai", "api_key": ""}),
            ("generate", generate),
            ("get_providers", {}),
            ("get_models", {}),
            ("interrupt", {"target_request_id": "nobody"}),
        )
        assert sorted(order) == sorted(
            ["load_ack", "generate_ack", "get_providers_done", "get_models_done", "interrupt_ack"]
        )
        assert (await running.pool.loads.get()).fields.api_key is None
