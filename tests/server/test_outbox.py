"""What waits for one client: in order, counted, and joined only while the client is behind."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waifu_client.protocol import CloseAck, ErrorCode, GenerateStreamDone
from waifu_llm.outbox import Outbox

CHUNK_OVERHEAD = len('{"type":"generate_stream_chunk","unique_request_id":"a","chunk":""}')


def put(outbox: Outbox, stream: str, *texts: str, request_id: str = "a") -> None:
    outbox.put_chunks(stream, request_id, texts)


def done(request_id: str = "a") -> GenerateStreamDone:
    return GenerateStreamDone(unique_request_id=request_id, is_error=False, error=ErrorCode.SUCCESS)


def read(batch: Sequence[bytes]) -> list[tuple[str, str, Any]]:
    frames = [json.loads(frame) for frame in batch]
    return [(f["type"], f["unique_request_id"], f.get("chunk")) for f in frames]


def send_all(outbox: Outbox) -> list[tuple[str, str, Any]]:
    batch = outbox.take()
    outbox.written()
    return read(batch)


def idle(outbox: Outbox) -> bool:
    return not outbox.waits


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(1000)


def behind(outbox: Outbox) -> None:
    """The client does not take the batch that is being written."""
    outbox.take()


def test_what_is_put_comes_out_in_order(outbox: Outbox) -> None:
    outbox.put(CloseAck(unique_request_id=1))
    put(outbox, "s", "one", "two")
    outbox.put(done())
    assert not idle(outbox)
    assert [frame[2] for frame in send_all(outbox)] == [None, "one", "two", None]
    assert idle(outbox)
    assert outbox.waiting_bytes == 0


def test_a_client_that_keeps_up_gets_every_chunk_by_itself(outbox: Outbox) -> None:
    for text in "abc":
        put(outbox, "s", text)
        assert send_all(outbox) == [("generate_stream_chunk", "a", text)]


def test_the_chunks_of_a_stream_are_joined_while_the_client_is_behind(outbox: Outbox) -> None:
    behind(outbox)
    for text in ("one ", "two ", "thrée"):
        put(outbox, "s", text)
    outbox.put(done())
    outbox.written()
    assert send_all(outbox) == [
        ("generate_stream_chunk", "a", "one two thrée"),
        ("generate_stream_done", "a", None),
    ]


def test_two_streams_are_not_mixed(outbox: Outbox) -> None:
    behind(outbox)
    for text in "12":
        put(outbox, "s", text, request_id="a")
        put(outbox, "t", text, request_id="b")
    outbox.written()
    assert send_all(outbox) == [("generate_stream_chunk", "a", "12"), ("generate_stream_chunk", "b", "12")]


def test_a_stream_that_reuses_an_id_is_not_joined_with_the_one_before(outbox: Outbox) -> None:
    behind(outbox)
    put(outbox, "first", "old")
    outbox.put(done())
    put(outbox, "second", "new")
    outbox.written()
    assert [frame[2] for frame in send_all(outbox)] == ["old", None, "new"]


def test_a_joined_chunk_stays_small_enough_for_any_client() -> None:
    outbox = Outbox(10**7)
    behind(outbox)
    for _ in range(40):
        put(outbox, "s", "x" * 10_000)
    put(outbox, "s", *("w" * 10_000 for _ in range(40)))
    put(outbox, "s", "y" * 100_000)
    put(outbox, "s", "z")
    outbox.written()
    batch = outbox.take()
    texts = [frame[2] for frame in read(batch)]
    assert "".join(texts) == "x" * 400_000 + "w" * 400_000 + "y" * 100_000 + "z"
    assert max(map(len, texts[:-2])) <= 64 * 1024


def test_what_waits_is_counted_in_bytes_until_it_is_taken(outbox: Outbox) -> None:
    put(outbox, "s", "é" * 10)
    assert outbox.waiting_bytes == CHUNK_OVERHEAD + 20
    outbox.take()
    assert outbox.waiting_bytes == 0
    put(outbox, "s", "é" * 10)
    put(outbox, "s", "x")
    assert outbox.waiting_bytes == 21
    assert not idle(outbox)
    outbox.written()
    assert not idle(outbox)


def test_a_client_that_is_behind_overflows_with_the_message_after_the_limit(outbox: Outbox) -> None:
    behind(outbox)
    put(outbox, "s", "x" * 5000)
    assert not outbox.overflowing, "one large message is no reason to give a client up"
    put(outbox, "t", "x")
    overflowing: bool = outbox.overflowing
    assert overflowing
    outbox.discard()
    assert (outbox.waiting_bytes, outbox.overflowing) == (0, False)
    outbox.written()
    assert outbox.take() == []


def test_a_burst_for_a_client_that_keeps_up_does_not_overflow(outbox: Outbox) -> None:
    for _ in range(10):
        put(outbox, "s", "x" * 1000)
    assert not outbox.overflowing
    assert len(outbox.take()) == 10


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["s", "t"]), st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3)),
        st.sampled_from(["take", "written"]),
    ),
    max_size=40,
)


@given(STEPS)
def test_no_text_is_lost_or_reordered_whenever_the_client_falls_behind(steps: list[Any]) -> None:
    outbox, said, got, writing = Outbox(10**6), {"s": "", "t": ""}, {"s": "", "t": ""}, False

    def finish() -> None:
        for kind, request_id, text in read(batch):
            assert kind == "generate_stream_chunk"
            got[request_id] += text
        outbox.written()

    batch: list[bytes] = []
    for step in steps:
        if isinstance(step, tuple):
            stream, texts = step
            put(outbox, stream, *texts, request_id=stream)
            said[stream] += "".join(texts)
        elif step == "take" and not writing:
            batch, writing = outbox.take(), True
        elif step == "written" and writing:
            finish()
            writing = False
    if writing:
        finish()
    batch = outbox.take()
    finish()
    assert got == said
    assert idle(outbox)
    assert outbox.waiting_bytes == 0
