"""The asyncio client against the real server, with a pool that does what the test says."""

import asyncio

import pytest
from support.fake_pool import FakePool
from support.serving import serving
from support.waiting import bounded

import waifu_client
from waifu_client.protocol import ErrorCode


async def test_a_long_answer_arrives_whole_streamed_or_not() -> None:
    pool = FakePool()
    pieces = [f"{n:07}ä\n" * 1000 for n in range(700)]  # about 7 MiB
    async with serving(pool) as server, bounded(), waifu_client.connect(server.url) as llm:
        loading = asyncio.create_task(llm.load("echo"))
        (await pool.loads.get()).succeed()
        await loading
        whole = asyncio.create_task(llm.generate("Hi", model_id="m"))
        streamed = asyncio.create_task(collect(llm.stream("Hi", model_id="m")))
        for _ in range(2):
            generation = await pool.generations.get()
            for piece in pieces:
                generation.chunk(piece)
            generation.end()
            await asyncio.wait({whole, streamed}, return_when=asyncio.FIRST_COMPLETED)
        assert (await whole).text == await streamed == "".join(pieces)


async def collect(stream: waifu_client.Stream) -> str:
    return "".join([piece async for piece in stream])


async def test_a_cancelled_load_is_cancelled_in_the_pool() -> None:
    pool = FakePool()
    async with serving(pool) as server, bounded(), waifu_client.connect(server.url) as llm:
        loading = asyncio.create_task(llm.load("echo"))
        load = await pool.loads.get()
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        await load.cancelled.wait()


async def test_leaving_a_stream_cancels_it_in_the_pool_and_no_other() -> None:
    pool = FakePool()
    async with serving(pool) as server, bounded(), waifu_client.connect(server.url) as llm:
        loading = asyncio.create_task(llm.load("echo"))
        (await pool.loads.get()).succeed()
        await loading
        other = asyncio.create_task(llm.generate("Hi", model_id="m"))
        kept = await pool.generations.get()
        left = asyncio.ensure_future(anext(aiter(llm.stream("Hi", model_id="m"))))
        leaving = await pool.generations.get()
        leaving.chunk("a")
        assert await left == "a"
        await leaving.cancelled.wait()
        kept.chunk("b")
        kept.end()
        assert (await other).text == "b"
        assert not kept.cancelled.is_set()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (ErrorCode.AUTHORIZATION, waifu_client.AuthorizationError),
        (ErrorCode.INVALID_MODEL, waifu_client.InvalidModel),
        (ErrorCode.TIMEOUT, waifu_client.TimedOut),
        (ErrorCode.UNEXPECTED, waifu_client.UnexpectedError),
    ],
)
async def test_what_the_pool_says_reaches_the_program(code: ErrorCode, kind: type[waifu_client.LLMError]) -> None:
    pool = FakePool()
    async with serving(pool) as server, bounded(), waifu_client.connect(server.url) as llm:
        loading = asyncio.create_task(llm.load("echo"))
        (await pool.loads.get()).succeed()
        await loading
        asking = asyncio.create_task(llm.generate("Hi", model_id="m"))
        (await pool.generations.get()).fail(code, "because", "quota")
        with pytest.raises(kind, match="because") as caught:
            await asking
        assert caught.value.reason == "quota"


async def test_a_module_with_a_token_admits_who_has_it() -> None:
    async with serving(FakePool(by_itself=True), token="geheim") as server, bounded():
        with pytest.raises(waifu_client.AuthorizationError, match="token"):
            await waifu_client.Client.open(server.url)
        async with waifu_client.connect(server.url, token="geheim") as llm:
            await llm.load("echo")


async def test_a_request_over_the_size_limit_is_told_why_the_connection_ends() -> None:
    async with serving(FakePool(by_itself=True)) as server, bounded(), waifu_client.connect(server.url) as llm:
        with pytest.raises(waifu_client.ConnectionLost, match=r"1009.*MiB|1009.*limit|1009.*large|1009.*long"):
            await llm.generate("x" * (17 * 2**20), model_id="m")
