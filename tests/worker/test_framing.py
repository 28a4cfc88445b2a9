"""Lines on a pipe: cut anywhere, as long as the limit and one longer, and full of bad bytes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waifu_worker.framing import (
    DECODE_ERRORS,
    LineSplitter,
    LineTooLong,
    decode_from_worker,
    decode_to_worker,
    encode,
)
from waifu_worker.wire import (
    MAX_LINE_BYTES,
    Beat,
    Cancel,
    ChatMessage,
    Chunk,
    Code,
    Done,
    Failed,
    FromWorker,
    Generate,
    Load,
    ModelInfo,
    Models,
    Params,
    Progress,
    Ready,
    Start,
    ToWorker,
    Unload,
    Usage,
)

TO_WORKER: list[ToWorker] = [
    Load(id=1, ctx=1),
    Load(id=1, ctx=1, api_key="k", options={"a": 1, "b": ["x"], "c": None, "d": 0.5, "e": True}, preload_model_id="m"),
    Models(id=2, ctx=1),
    Generate(id=3, ctx=1, params=Params(model_id="m"), prompt="p", stream=True, time_left_ms=5),
    Generate(
        id=3,
        ctx=1,
        params=Params(model_id="m", stops=("a",), stop_ids=(1,), seed=3, top_p=0.5),
        messages=(ChatMessage(role="user", content="c\n\u2028 😀", name="n"),),
    ),
    Cancel(id=3),
    Unload(ctx=1),
]
FROM_WORKER: list[FromWorker] = [
    Ready(magic="waifu-llm", wire=1, name="echo", abilities=("chat",)),
    Progress(id=1, stage="model", detail="d", fraction=0.5),
    Chunk(id=3, texts=("t\n\u0085",)),
    Done(
        id=1,
        models=(ModelInfo(id="m", kind="chat", owner="o", size_bytes=1, context=2),),
        usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3),
        finish_reason="stop",
        ignored=("top_k",),
        warning="w",
    ),
    Failed(
        id=1,
        error=Code.TIMEOUT,
        message="m",
        reason="r",
        retry_after_ms=1,
        http_status=429,
        provider_code="c",
    ),
    Beat(),
]


@pytest.mark.parametrize("message", TO_WORKER, ids=lambda message: type(message).__name__)
def test_what_goes_to_a_worker_comes_out_as_it_went_in(message: ToWorker) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert decode_to_worker(line) == message


@pytest.mark.parametrize("message", FROM_WORKER, ids=lambda message: type(message).__name__)
def test_what_comes_from_a_worker_comes_out_as_it_went_in(message: FromWorker) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert decode_from_worker(line) == message


def test_a_frame_cut_at_every_byte_is_whole_again() -> None:
    data = b"".join(map(encode, FROM_WORKER))
    for place in range(len(data) + 1):
        splitter = LineSplitter()
        lines = splitter.feed(data[:place]) + splitter.feed(data[place:])
        assert [decode_from_worker(line) for line in lines] == FROM_WORKER


def test_one_byte_at_a_time_gives_the_same_lines() -> None:
    splitter = LineSplitter()
    data = b"".join(map(encode, TO_WORKER))
    lines = [line for index in range(len(data)) for line in splitter.feed(data[index : index + 1])]
    assert [decode_to_worker(line) for line in lines] == TO_WORKER


@given(st.lists(st.binary(max_size=30)), st.integers(1, 10))
def test_lines_are_those_between_newlines_however_they_come(parts: list[bytes], size: int) -> None:
    data = b"\n".join(parts)
    splitter = LineSplitter(limit=1000)
    lines = [line for start in range(0, len(data), size) for line in splitter.feed(data[start : start + size])]
    assert lines == data.split(b"\n")[:-1]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(("length", "fits"), [(99, True), (100, True), (101, False)])
def test_a_line_may_be_as_long_as_the_limit_and_no_longer(length: int, fits: bool, size: int) -> None:
    splitter = LineSplitter(limit=100)
    data = b"x" * length + b"\n"
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    if fits:
        assert [line for piece in pieces for line in splitter.feed(piece)] == [b"x" * length]
    else:
        with pytest.raises(LineTooLong):
            for piece in pieces:
                splitter.feed(piece)


def test_bytes_without_a_newline_are_refused_as_soon_as_they_are_too_many() -> None:
    splitter = LineSplitter(limit=100)
    for _ in range(10):
        assert splitter.feed(b"x" * 10) == []
    with pytest.raises(LineTooLong):
        splitter.feed(b"x")


def test_the_limit_of_the_wire_itself() -> None:
    frame = len(encode(Chunk(id=1, texts=("",)))) - 1
    assert len(encode(Chunk(id=1, texts=("x" * (MAX_LINE_BYTES - frame),)))) == MAX_LINE_BYTES + 1
    with pytest.raises(LineTooLong):
        encode(Chunk(id=1, texts=("x" * (MAX_LINE_BYTES - frame + 1),)))


BAD_UTF8 = [
    b"\x80",
    b"\xff\xfe",
    b"\xc0\xaf",
    b"\xc3",
    b"\xe2\x82",
    b"\xf0\x9f\x98",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"a\xe2\x28\xa1",
]


@pytest.mark.parametrize("bad", BAD_UTF8)
def test_bad_utf8_is_a_decode_error_and_nothing_else(bad: bytes) -> None:
    for line in (bad, b'{"type":"chunk","id":1,"texts":["' + bad + b'"]}', b'{"type":"' + bad + b'"}'):
        for decode in (decode_from_worker, decode_to_worker):
            with pytest.raises(DECODE_ERRORS):
                decode(line)


@given(st.binary())
def test_no_bytes_whatever_raise_anything_but_a_decode_error(data: bytes) -> None:
    for decode in (decode_from_worker, decode_to_worker):
        with pytest.raises(DECODE_ERRORS):
            decode(data)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"id":1,"text":"no type"}',
        b'{"type":"chunk","id":1}',
        b'{"type":"chunk","id":1,"texts":["t"],"extra":1}',
        b'{"type":"chunk","id":"1","texts":["t"]}',
        b'{"type":"failed","id":1,"error":"NO_SUCH_CODE","message":"m"}',
        b'{"type":"chunk","id":1,"texts":["a\nb"]}',
    ],
)
def test_a_line_that_is_no_message_is_a_decode_error(line: bytes) -> None:
    with pytest.raises(DECODE_ERRORS):
        decode_from_worker(line)


def test_lone_surrogates_are_replaced_and_pairs_joined() -> None:
    assert decode_from_worker(encode(Chunk(id=1, texts=("a\ud83db",)))) == Chunk(id=1, texts=("a\ufffdb",))
    assert decode_from_worker(encode(Chunk(id=1, texts=("\ud83d\ude00",)))) == Chunk(id=1, texts=("😀",))
    load = Load(id=1, ctx=1, options={"o\ud800": ["v\ud800"]})
    assert decode_to_worker(encode(load)) == Load(id=1, ctx=1, options={"o\ufffd": ["v\ufffd"]})


def test_a_load_shows_no_key() -> None:
    shown = repr(Load(id=1, ctx=1, api_key="secret", options={"base_url": "https://user:secret@example.org"}))
    assert "secret" not in shown
    assert "base_url" in shown


def test_defaults_take_no_room_on_the_wire() -> None:
    assert msgspec.json.decode(encode(Done(id=1))) == {"type": "done", "id": 1}


def test_the_token_of_a_gateway_is_not_in_what_its_start_line_looks_like() -> None:
    shown = repr(Start(url="ws://127.0.0.1:1", token="secret", settings={"port": 1}, data_dir="/d", log_level="info"))
    assert "secret" not in shown
    assert "port" in shown
