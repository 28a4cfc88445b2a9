"""Rows C1 to C8, C14 to C16: whatever a client sends, it is answered in kind and the connection stays."""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_pool import FakeLoaded, FakePool
from support.peer import PARAMS, USER, Peer, connected
from support.raw_frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, raw_websocket
from support.serving import Serving, serving
from support.talk import Talk, sent

from waifu_client import protocol
from waifu_client.protocol import ErrorCode
from waifu_llm.config import LimitSettings

REQUEST = '{"type": "get_providers", "unique_request_id": "1"'
DEEP = ["[" * 100_000, '{"a":' * 100_000, f'{REQUEST}, "a": {"[" * 100_000}{"]" * 100_000}}}']
BAD_FRAMES: list[str] = (
    json.loads((Path(__file__).parent.parent / "data" / "bad_frames.json").read_text("utf-8")) + DEEP
)


async def test_c1_a_hundred_frames_that_are_no_request_get_an_error_each_and_the_connection_stays() -> None:
    assert len(set(BAD_FRAMES)) >= 100
    async with serving() as running, connected(running.url) as peer:
        for bad in BAD_FRAMES:
            await peer.socket.send(bad)
            (error,) = await peer.hear_types("error")
            assert (error["unique_request_id"], error["error"], error["is_error"]) == ("", "UNEXPECTED", True), bad
            assert 0 < len(error["message"]) <= 300
        await alive(peer)


async def alive(peer: Peer) -> None:
    await peer.say("get_providers", "still here")
    (done,) = await peer.hear_types("get_providers_done")
    assert done["unique_request_id"] == "still here"


# C2: every field of every request, made from the shapes themselves, so that a new one cannot be forgotten.

GOOD: dict[str, dict[str, Any]] = {
    "load": {"provider": "echo"},
    "generate": {"messages": USER, "params": PARAMS},
    "interrupt": {},
    "close": {},
    "get_providers": {},
    "get_models": {},
    "unload": {"provider": "echo"},
    "get_stats": {},
}
REQUESTS: dict[str, type[msgspec.Struct]] = {
    str(shape.__struct_config__.tag): shape for shape in protocol.AnyRequest.__args__
}
WRONG: tuple[Any, ...] = (1.5, -1, True, "wrong", [], [1], {}, {"a": 1}, 2**70, "", None, [[]], [{"role": "user"}])
TERMINALS = {kind: f"{kind}_done" for kind in GOOD} | {"interrupt": "interrupt_ack", "close": "close_ack"}


def cases() -> list[tuple[str, str, Any]]:
    """Kind, field and a value for it, `...` for none at all."""
    found = []
    for kind, shape in REQUESTS.items():
        names = [
            field.name for field in msgspec.structs.fields(shape) if field.name not in ("unique_request_id", "fields")
        ]
        inside = [f"params.{field.name}" for field in msgspec.structs.fields(protocol.GenerateParams)]
        for name in [*names, *(inside if kind == "generate" else [])]:
            found += [(kind, name, value) for value in (..., *WRONG)]
    return found


def with_field(kind: str, name: str, value: Any) -> dict[str, Any]:
    message: dict[str, Any] = {**GOOD[kind]}
    target, key = message, name
    if name.startswith("params."):
        message["params"] = target = {**PARAMS}
        key = name.removeprefix("params.")
    if value is ...:
        target.pop(key, None)
    else:
        target[key] = value
    return {**message, "type": kind, "unique_request_id": "1"}


def test_c2_the_kinds_of_this_test_are_those_of_the_protocol() -> None:
    assert set(REQUESTS) == set(GOOD) == set(TERMINALS)


async def test_c2_each_field_absent_null_empty_or_of_a_wrong_type_is_answered_in_kind_once() -> None:
    async with serving(FakePool(by_itself=True)) as running, connected(running.url) as peer:
        running.pool.last = FakeLoaded("echo")
        asked = [case for case in cases() if case[0] != "close"]
        for kind, name, value in asked:
            await peer.socket.send(json.dumps(with_field(kind, name, value)))
            wanted = {TERMINALS[kind]}
            if kind == "generate" and name == "stream" and value is True:
                wanted = {"generate_stream_done"}
            last = await last_of(peer)
            assert last["type"] in wanted, (kind, name, value, last)
            assert last.get("error", "SUCCESS") in set(ErrorCode)
        assert len(asked) > 300
        await alive(peer)


async def last_of(peer: Peer) -> dict[str, Any]:
    """The terminal message of the one request under way."""
    while True:
        reply = await peer.hear()
        assert reply["unique_request_id"] == "1"
        if reply["type"].endswith("_done") or reply["type"] == "interrupt_ack":
            return reply


# C3, C4.

NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "9" * 5000,
    "-" + "9" * 5000,
    str(2**64),
    str(2**70),
    str(-(2**63) - 1),
    "true",
]
NO_NUMBERS = ("model_id", "character_name", "stop_tokens")
NUMBER_FIELDS = [
    field.name for field in msgspec.structs.fields(protocol.GenerateParams) if field.name not in NO_NUMBERS
]


def test_c3_numbers_that_are_none_or_too_large_are_refused_wherever_a_number_stands() -> None:
    talk = Talk()
    talk.shared = FakeLoaded("echo")
    refused = [("generate_done", "INVALID_PROMPT"), ("error", "UNEXPECTED")]
    for field in [*NUMBER_FIELDS, "stop_tokens"]:
        for number in NUMBERS:
            params = f'{{"model_id": "m", "{field}": {f"[{number}]" if field == "stop_tokens" else number}}}'
            effects = talk.raw(f'{{"type": "generate", "unique_request_id": "1", "prompt": "x", "params": {params}}}')
            last = sent(effects)[-1]
            assert (last["type"], last["error"]) in refused, (field, number, last)


def test_c3_none_of_them_is_an_id_or_the_time_of_a_load() -> None:
    talk = Talk()
    for number in NUMBERS:
        (error,) = sent(talk.raw(f'{{"type": "close", "unique_request_id": {number}}}'))
        assert error["type"] == "error"
        load = f'{{"type": "load", "unique_request_id": "1", "provider": "echo", "timeout_ms": {number}}}'
        assert sent(talk.raw(load))[-1]["type"] in ("load_done", "error")


PLACES = [
    "%s",
    '{"type": "get_providers", "unique_request_id": %s}',
    '{"type": "load", "unique_request_id": "1", "provider": "echo", "x": %s}',
    '{"type": "generate", "unique_request_id": "1", "params": %s}',
    '{"type": "generate", "unique_request_id": "1", "params": {"model_id": %s}}',
]


def test_c4_nesting_of_any_depth_is_answered_and_breaks_nothing() -> None:
    for depth in (900, 2_000, 100_000):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            for place in PLACES:
                replies = sent(Talk().raw(place % (opening * depth + "1" + closing * depth)))
                if [reply["type"] for reply in replies] == ["load_ack"]:
                    # It can be read, at 2,000 since Python 3.12: whether the provider has such a field is asked later.
                    assert depth < 100_000
                else:
                    assert replies[-1]["error"] in ("UNEXPECTED", "INVALID_PROMPT", "INVALID_MODEL")
    assert sys.getrecursionlimit() >= 1000


# C5 to C8: frames.


async def test_c5_a_text_frame_that_is_no_utf8_closes_with_1007_and_disturbs_nobody() -> None:
    bad = (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"ok \x80")
    async with serving() as running, connected(running.url) as neighbour:
        for payload in bad:
            async with raw_websocket(running.host, running.port) as raw:
                raw.send(frame(TEXT, payload))
                assert await raw.closed() == 1007
        await alive(neighbour)


async def test_c6_a_binary_frame_is_text_by_another_name() -> None:
    async with serving() as running, raw_websocket(running.host, running.port) as raw:
        raw.send(frame(BINARY, b'{"type": "get_providers", "unique_request_id": "1"}'))
        assert (await raw.hear_reply())["type"] == "get_providers_done"
        raw.send(frame(BINARY, b"\xff\xfe"))
        assert (await raw.hear_reply())["type"] == "error"


@pytest.mark.parametrize(("over", "answer"), [(0, "get_providers_done"), (1, "error")])
async def test_c7_the_limit_of_16_mib_is_exact(over: int, answer: str) -> None:
    limit = LimitSettings().message_bytes
    head = '{"type": "get_providers", "unique_request_id": "1", "pad": "'
    message = head + "x" * (limit + over - len(head) - 2) + '"}'
    async with serving() as running, connected(running.url) as peer:
        await peer.socket.send(message)
        await peer.hear_types(answer)
        if over:
            assert await peer.closed() == 1009
        else:
            await alive(peer)


MESSAGE = json.dumps({"type": "get_providers", "unique_request_id": "in pieces"}).encode()


def fragments(payload: bytes, size: int) -> list[bytes]:
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    last = len(pieces) - 1
    return [frame(TEXT if n == 0 else CONTINUATION, piece, fin=n == last) for n, piece in enumerate(pieces)]


async def raw_answer(running: Serving, *pieces: bytes) -> str:
    async with raw_websocket(running.host, running.port) as raw:
        raw.send(*pieces)
        return str((await raw.hear_reply())["unique_request_id"])


async def test_c8_a_message_in_pieces_of_any_size_is_one_message() -> None:
    async with serving() as running:
        for size in (1, 2, 7, 50):
            assert await raw_answer(running, *fragments(MESSAGE, size)) == "in pieces"


async def test_c8_empty_pieces_and_pieces_within_a_character_change_nothing() -> None:
    message = json.dumps({"type": "get_providers", "unique_request_id": "🙂"}, ensure_ascii=False).encode()
    pieces = fragments(message, 1)
    empty = frame(CONTINUATION, fin=False)
    async with serving() as running:
        mixed = [piece for n, one in enumerate(pieces[:-1]) for piece in ((one, empty) if n % 3 == 0 else (one,))]
        assert await raw_answer(running, *mixed, pieces[-1]) == "🙂"
        assert await raw_answer(running, frame(TEXT, fin=False), frame(CONTINUATION, message)) == "🙂"


async def test_c8_a_ping_within_a_message_is_answered_before_it() -> None:
    first, *rest = fragments(MESSAGE, 20)
    async with serving() as running, raw_websocket(running.host, running.port) as raw:
        raw.send(first, frame(PING, b"are you there"))
        assert await raw.hear() == (PONG, b"are you there")
        raw.send(frame(PONG, b"nobody asked"), *rest)
        assert (await raw.hear_reply())["unique_request_id"] == "in pieces"


AGAINST_THE_RULES = {
    "no beginning": (frame(CONTINUATION, b"{}"),),
    "two beginnings": (frame(TEXT, b"{", fin=False), frame(TEXT, b"}")),
    "a ping in pieces": (frame(PING, b"x", fin=False),),
    "a long ping": (frame(PING, b"x" * 126),),
    "an unknown kind": (frame(0x3, b"{}"),),
    "an unknown control": (frame(0xB, b""),),
    "a reserved bit": (b"\xc1\x80\x00\x00\x00\x00",),
    "no mask": (b"\x81\x02{}",),
    "half a code": (frame(CLOSE, b"\x03"),),
    "no such code": (frame(CLOSE, (5).to_bytes(2, "big")),),
}


async def test_c8_frames_against_the_rules_close_with_1002_and_disturb_nobody() -> None:
    async with serving() as running, connected(running.url) as neighbour:
        for name, pieces in AGAINST_THE_RULES.items():
            async with raw_websocket(running.host, running.port) as raw:
                raw.send(*pieces)
                assert await raw.closed() == 1002, name
        await alive(neighbour)


async def test_c8_a_message_has_at_most_4096_pieces() -> None:
    async with serving() as running:
        for count in (4096, 4097):
            message = MESSAGE[:-1] + b" " * (count - len(MESSAGE)) + b"}"
            async with raw_websocket(running.host, running.port) as raw:
                raw.send(*fragments(message, 1))
                if count == 4096:
                    assert (await raw.hear_reply())["unique_request_id"] == "in pieces"
                else:
                    assert await raw.closed() in (1002, 1008, 1009)


# C14 to C16: ids.


async def test_c14_a_second_request_with_a_running_id_gets_an_error_and_the_first_its_own_end() -> None:
    async with serving() as running, raw_websocket(running.host, running.port) as raw:
        running.pool.last = FakeLoaded("echo")
        one = {"type": "generate", "unique_request_id": "g", "messages": USER, "params": PARAMS}
        raw.send(frame(TEXT, json.dumps(one).encode()), frame(TEXT, json.dumps({**one, "stream": True}).encode()))
        assert (await raw.hear_reply())["type"] == "generate_ack"
        error = await raw.hear_reply()
        assert (error["type"], error["unique_request_id"], error["error"]) == ("error", "g", "UNEXPECTED")
        generation = await running.pool.generations.get()
        generation.chunk("whole")
        generation.end()
        done = await raw.hear_reply()
        assert (done["type"], done["response"]) == ("generate_done", "whole")
        assert running.pool.generations.empty()


async def test_c15_an_id_is_free_again_after_its_end_and_belongs_to_its_connection() -> None:
    async with serving() as running, connected(running.url) as one, connected(running.url) as two:
        running.pool.last = FakeLoaded("echo")
        for text in ("first", "second"):
            await one.generate("same", stream=False)
            await two.generate("same", stream=False)
            for peer in (one, two):
                generation = await running.pool.generations.get()
                generation.chunk(f"{text} {peer is one}")
                generation.end()
            for peer in (one, two):
                (done,) = await peer.hear_types("generate_done")
                assert done["response"] == f"{text} {peer is one}"


IDS = st.one_of(
    st.text(min_size=1, max_size=256),
    st.text(alphabet="\x00\n\r\u202e\u200f\u2028🙂é'\"\\/<>&%", min_size=1, max_size=256),
    st.integers(min_value=-(2**63), max_value=2**64 - 1),
)


@given(request_id=IDS)
@settings(max_examples=300)
def test_c16_an_id_of_any_characters_comes_back_exactly(request_id: str | int) -> None:
    talk = Talk()
    for kind in ("load", "interrupt", "unload", "get_models", "close"):
        for reply in sent(talk.say(kind, request_id, provider="echo")):
            assert reply["unique_request_id"] == request_id
            assert type(reply["unique_request_id"]) is type(request_id)
        talk.session.interrupt_generations()


async def test_c16_weird_ids_come_back_over_the_socket_and_bad_ones_are_told_apart() -> None:
    good: list[str | int] = [
        "\x00",
        "\n",
        "\u202e abc",
        "🙂" * 256,
        " ",
        "x" * 256,
        "é" * 256,
        0,
        -1,
        2**63,
        2**64 - 1,
        -(2**63),
        "0",
    ]
    bad: list[Any] = ["", "x" * 257, "x" * 1_000_000, None, True, 1.5, [], {}, 2**64, -(2**63) - 1]
    async with serving() as running, connected(running.url) as peer:
        for request_id in good:
            await peer.say("get_providers", request_id)
            (done,) = await peer.hear_types("get_providers_done")
            assert (done["unique_request_id"], type(done["unique_request_id"])) == (request_id, type(request_id))
        for request_id in bad:
            await peer.say("get_providers", request_id)
            (error,) = await peer.hear_types("error")
            assert error["unique_request_id"] == ""
        await peer.socket.send('{"type": "get_providers", "unique_request_id": "\\ud800"}')
        assert (await peer.hear())["type"] == "error"
