"""Streams of the asyncio client: leaving one in any way interrupts it, and nobody waits for a slow reader."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from support.scripted_module import Peer, answer, done, scripted
from support.waiting import bounded

import waifu_client
from waifu_client import Client, Usage
from waifu_client.protocol import (
    ErrorCode,
    Generate,
    GenerateAck,
    GenerateStreamChunk,
    GenerateStreamDone,
    LoadProgress,
)


async def test_a_stream_yields_its_pieces_and_then_knows_how_it_ended() -> None:
    async def script(peer: Peer) -> None:
        generate = await peer.accept_generate("a", "b", "c")
        assert generate.stream
        await peer.send(done(generate, usage=Usage(1, 2, 3), finish_reason="stop", ignored=["seed"]))
        await peer.silence()

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        stream = llm.stream("Hi", model_id="m")
        assert (stream.usage, stream.finish_reason, stream.ignored) == (None, None, ())
        assert [piece async for piece in stream] == ["a", "b", "c"]
        assert (stream.usage, stream.finish_reason, stream.ignored) == (Usage(1, 2, 3), "stop", ("seed",))


async def test_the_first_steps_work_without_a_model_id() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept_load()
        await peer.accept_models("echo")
        await peer.accept_providers(echo="echo")
        await peer.send(done(await peer.accept_generate("Hello")))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        await llm.load("echo")
        assert [piece async for piece in llm.stream([{"role": "user", "content": "Hello"}])] == ["Hello"]


async def test_a_stream_that_nobody_reads_sends_nothing() -> None:
    async with scripted(Peer.silence) as module, bounded(), waifu_client.connect(module.url) as llm:
        llm.stream("Hi", model_id="m")
        async with llm.stream("Hi", model_id="m"):
            pass


async def test_a_stream_can_be_read_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(done(await peer.accept_generate("a")))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        stream = llm.stream("Hi", model_id="m")
        pieces = aiter(stream)
        assert [piece async for piece in pieces] == ["a"]
        assert await anext(pieces, None) is None
        with pytest.raises(RuntimeError, match="once"):
            aiter(stream)


async def interrupted(leave: Callable[[Client], Awaitable[None]]) -> None:
    """The stream that `leave` begins and leaves is interrupted, and the connection goes on."""

    async def script(peer: Peer) -> None:
        generate = await peer.accept_generate("a", "b")
        assert (await peer.accept_interrupt()).target_request_id == generate.unique_request_id
        await peer.send(
            GenerateStreamChunk(unique_request_id=generate.unique_request_id, chunk="late"),
            GenerateStreamDone(unique_request_id=generate.unique_request_id, is_error=True, error=ErrorCode.INTERRUPT),
        )
        await peer.send(answer(await peer.accept_generate(), "goes on"))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        await leave(llm)
        assert (await llm.generate("Hi", model_id="m")).text == "goes on"


async def test_a_break_interrupts() -> None:
    async def leave(llm: Client) -> None:
        async for _ in llm.stream("Hi", model_id="m"):
            break

    await interrupted(leave)


async def test_a_break_interrupts_also_where_the_stream_is_kept() -> None:
    kept = []

    async def leave(llm: Client) -> None:
        stream = llm.stream("Hi", model_id="m")
        kept.append(stream)
        async for _ in stream:
            break

    await interrupted(leave)
    assert kept[0].finish_reason is None


async def test_an_exception_in_the_loop_interrupts() -> None:
    async def leave(llm: Client) -> None:
        with pytest.raises(ZeroDivisionError):
            async for _ in llm.stream("Hi", model_id="m"):
                raise ZeroDivisionError

    await interrupted(leave)


async def test_cancelling_the_reader_while_it_waits_interrupts() -> None:
    async def leave(llm: Client) -> None:
        got_all = asyncio.Event()

        async def read() -> None:
            async for piece in llm.stream("Hi", model_id="m"):
                if piece == "b":
                    got_all.set()

        reading = asyncio.create_task(read())
        await got_all.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    await interrupted(leave)


async def test_cancelling_the_reader_while_it_does_something_else_interrupts() -> None:
    async def leave(llm: Client) -> None:
        busy = asyncio.Event()

        async def read() -> None:
            async for _ in llm.stream("Hi", model_id="m"):
                busy.set()
                await asyncio.Event().wait()

        reading = asyncio.create_task(read())
        await busy.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    await interrupted(leave)


async def test_closing_a_stream_interrupts_and_ends_its_reading() -> None:
    async def leave(llm: Client) -> None:
        stream = llm.stream("Hi", model_id="m")
        pieces = aiter(stream)
        assert await anext(pieces) == "a"
        await stream.aclose()
        await stream.aclose()
        assert await anext(pieces, "nothing") == "nothing"

    await interrupted(leave)


async def test_the_end_of_an_async_with_interrupts() -> None:
    async def leave(llm: Client) -> None:
        async with llm.stream("Hi", model_id="m") as stream:
            assert await anext(aiter(stream)) == "a"

    await interrupted(leave)


async def test_a_reader_that_leaves_before_the_ack_interrupts() -> None:
    taken = asyncio.Event()

    async def script(peer: Peer) -> None:
        generate = await peer.take(Generate)
        taken.set()
        assert (await peer.accept_interrupt()).target_request_id == generate.unique_request_id

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        first = asyncio.ensure_future(anext(aiter(llm.stream("Hi", model_id="m"))))
        await taken.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await module.over()


async def test_an_interrupt_from_elsewhere_is_an_exception_for_the_reader() -> None:
    async def script(peer: Peer) -> None:
        generate = await peer.accept_generate("a")
        assert (await peer.accept_interrupt()).target_request_id == generate.unique_request_id
        await peer.send(
            GenerateStreamDone(unique_request_id=generate.unique_request_id, is_error=True, error=ErrorCode.INTERRUPT)
        )
        await peer.silence()

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        stream = llm.stream("Hi", model_id="m")
        pieces = aiter(stream)
        assert await anext(pieces) == "a"
        assert await llm.interrupt(stream.request_id) == [stream.request_id]
        with pytest.raises(waifu_client.Interrupted):
            await anext(pieces)


async def test_a_stream_that_fails_yields_what_came_before_and_raises() -> None:
    async def script(peer: Peer) -> None:
        generate = await peer.accept_generate("a")
        await peer.send(
            GenerateStreamDone(
                unique_request_id=generate.unique_request_id,
                is_error=True,
                error=ErrorCode.TIMEOUT,
                message="no text for 1 s",
            )
        )
        await peer.silence()

    got = []
    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        with pytest.raises(waifu_client.TimedOut, match="no text for 1 s"):
            async for piece in llm.stream("Hi", model_id="m"):
                got.append(piece)
    assert got == ["a"]


async def test_replies_that_are_none_of_a_streams_are_passed_over() -> None:
    async def script(peer: Peer) -> None:
        generate = await peer.take(Generate)
        name = generate.unique_request_id
        await peer.send(
            GenerateAck(unique_request_id=name),
            LoadProgress(unique_request_id=name, stage="queue", detail="", fraction=None),
            done(generate),
        )

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        assert [piece async for piece in llm.stream("Hi", model_id="m")] == []


async def test_a_reader_that_takes_its_time_holds_nobody_up_and_loses_nothing() -> None:
    pieces = [f"{n:06}" * 1000 for n in range(2000)]

    async def script(peer: Peer) -> None:
        generate = await peer.accept_generate(*pieces)
        await peer.send(answer(await peer.accept_generate(), "quick"))
        await peer.send(done(generate))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        slow = aiter(llm.stream("Hi", model_id="m"))
        assert await anext(slow) == pieces[0]
        assert (await llm.generate("Hi", model_id="m")).text == "quick"
        assert [piece async for piece in slow] == pieces[1:]


async def test_many_streams_of_one_connection_do_not_mix() -> None:
    async def script(peer: Peer) -> None:
        requests = [await peer.accept_generate() for _ in range(20)]
        for n in range(5):
            for each in requests:
                text = f"{each.messages[0].content}.{n} "
                await peer.send(GenerateStreamChunk(unique_request_id=each.unique_request_id, chunk=text))
        await peer.send(*(done(each) for each in requests))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:

        async def read(name: str) -> str:
            return "".join([piece async for piece in llm.stream(name, model_id="m")])

        said = await asyncio.gather(*(read(str(n)) for n in range(20)))
    assert said == ["".join(f"{n}.{k} " for k in range(5)) for n in range(20)]


async def test_a_stream_forgotten_after_its_connection_is_no_trouble() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept_generate("a")
        await peer.silence()

    async with scripted(script) as module, bounded():
        async with waifu_client.connect(module.url) as llm:
            pieces = aiter(llm.stream("Hi", model_id="m"))
            assert await anext(pieces) == "a"
        del pieces
        with pytest.raises(waifu_client.ConnectionLost):
            await llm.generate("Hi", model_id="m")
