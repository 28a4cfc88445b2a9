"""An answer on its way to a program that reads as it likes."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
from support.waiting import bounded
from waifu_lollms.speech import LONGEST_ANSWER, LONGEST_CHUNK, MOST_APART, Speech
from waifu_lollms.tasks import Tasks


class Reader:
    """A program: what it read, and whether it reads on."""

    def __init__(self) -> None:
        self.chunks: list[str] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.stuck = asyncio.Event()

    async def __call__(self, event: str, payload: Mapping[str, object]) -> None:
        assert (event, payload["type"], payload["request_id"]) == ("text_chunk", 0, "id")
        chunk = payload["chunk"]
        assert isinstance(chunk, str)
        self.chunks.append(chunk)
        if not self.reads.is_set():
            self.stuck.set()
            await self.reads.wait()


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
async def speech(reader: Reader) -> AsyncIterator[Speech]:
    tasks = Tasks()
    yield Speech(reader, tasks, "id")
    assert len(tasks) == 0


async def test_pieces_that_are_read_in_time_stay_what_they_were(speech: Speech, reader: Reader) -> None:
    pieces = [f"{number} " for number in range(MOST_APART)]
    async with bounded(), speech:
        for piece in pieces:
            assert speech.add(piece)
    assert reader.chunks == pieces
    assert speech.text == "".join(pieces)


async def test_what_waits_travels_together_in_order_and_in_chunks_of_a_sane_length(
    speech: Speech, reader: Reader
) -> None:
    reader.reads.clear()
    pieces = [f"{number:05} ".ljust(100) for number in range(3_000)]
    async with bounded(), speech:
        speech.add(pieces[0])
        await reader.stuck.wait()
        for piece in pieces[1:]:
            assert speech.add(piece)
        reader.reads.set()
    assert "".join(reader.chunks) == "".join(pieces) == speech.text
    assert reader.chunks[0] == pieces[0]
    assert [len(chunk) for chunk in reader.chunks[1:-1]] == [LONGEST_CHUNK] * 4


async def test_nothing_of_a_cancelled_one_is_sent_and_its_text_is_what_was_sent(speech: Speech, reader: Reader) -> None:
    reader.reads.clear()

    async def say() -> None:
        async with speech:
            speech.add("said")
            await reader.stuck.wait()
            speech.add("not said")
            stuck.set()
            await asyncio.Event().wait()

    stuck = asyncio.Event()
    saying = asyncio.create_task(say())
    async with bounded():
        await stuck.wait()
        saying.cancel()
        await asyncio.wait([saying])
    assert saying.cancelled()
    reader.reads.set()
    await asyncio.sleep(0)
    assert reader.chunks == ["said"]
    assert speech.text == "said"


async def test_what_was_said_before_a_failure_is_sent(speech: Speech, reader: Reader) -> None:
    with pytest.raises(ValueError, match="failed"):
        async with bounded(), speech:
            speech.add("as far as it came")
            raise ValueError("failed")
    assert reader.chunks == ["as far as it came"]


async def test_it_begins_anew_where_nothing_was_said(speech: Speech, reader: Reader) -> None:
    async with bounded():
        async with speech:
            begun = [speech.has_begun]
        async with speech:
            speech.add("Hi")
            begun.append(speech.has_begun)
    assert begun == [False, True]
    assert reader.chunks == ["Hi"]


async def test_it_has_an_end(speech: Speech, reader: Reader) -> None:
    async with bounded(), speech:
        assert speech.add("a" * (LONGEST_ANSWER - 1))
        assert speech.add("")
        assert not speech.add("bc")
        assert not speech.add("d")
    assert speech.text == "".join(reader.chunks) == "a" * (LONGEST_ANSWER - 1) + "b"


async def test_a_failure_to_send_is_that_of_the_answer() -> None:
    async def broken(event: str, payload: Mapping[str, object]) -> None:
        raise RuntimeError("a bug")

    tasks = Tasks()
    async with bounded():
        with pytest.raises(RuntimeError, match="a bug"):
            async with Speech(broken, tasks, "id") as speech:
                speech.add("x")
