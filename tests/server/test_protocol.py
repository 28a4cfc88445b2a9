"""The message shapes as published clients know them."""

import json
import sys
from typing import Any, get_args

import msgspec
import pytest

from waifu_client import protocol
from waifu_client.protocol import ErrorCode, decode_reply, encode_reply, encode_request

OK: dict[str, Any] = {"unique_request_id": "1", "is_error": False, "error": ErrorCode.SUCCESS}
REPLIES: list[tuple[protocol.AnyReply, dict[str, Any]]] = [
    (protocol.LoadAck(unique_request_id="1", provider="p"), {"type": "load_ack", "provider": "p"}),
    (
        protocol.LoadProgress(unique_request_id="1", stage="worker", detail="", fraction=None),
        {"type": "load_progress", "stage": "worker", "detail": "", "fraction": None},
    ),
    (protocol.LoadDone(**OK, provider="p"), {"type": "load_done", "provider": "p"}),
    (protocol.GenerateAck(unique_request_id="1"), {"type": "generate_ack"}),
    (protocol.GenerateDone(**OK, response=""), {"type": "generate_done", "response": ""}),
    (
        protocol.GenerateStreamChunk(unique_request_id="1", chunk="é"),
        {"type": "generate_stream_chunk", "chunk": "é"},
    ),
    (protocol.GenerateStreamDone(**OK), {"type": "generate_stream_done"}),
    (
        protocol.InterruptAck(unique_request_id="1", interrupted=["a", 1]),
        {"type": "interrupt_ack", "interrupted": ["a", 1]},
    ),
    (protocol.CloseAck(unique_request_id="1"), {"type": "close_ack"}),
    (
        protocol.GetProvidersDone(unique_request_id="1", providers=["a"]),
        {"type": "get_providers_done", "providers": ["a"]},
    ),
    (
        protocol.GetModelsDone(**OK, models=["a"], providers=["a"]),
        {"type": "get_models_done", "models": ["a"], "providers": ["a"]},
    ),
    (protocol.UnloadDone(**OK, provider="p"), {"type": "unload_done", "provider": "p"}),
    (
        protocol.GetStatsDone(**OK, workers=[], environments=[], connections=1, counters={}),
        {"type": "get_stats_done", "workers": [], "environments": [], "connections": 1, "counters": {}},
    ),
    (protocol.ErrorReply(**{**OK, "unique_request_id": ""}), {"type": "error", "unique_request_id": ""}),
]


@pytest.mark.parametrize(("reply", "fields"), REPLIES, ids=[fields["type"] for _, fields in REPLIES])
def test_a_reply_has_exactly_its_fields_and_reads_back(reply: protocol.AnyReply, fields: dict[str, Any]) -> None:
    common: dict[str, Any] = {"unique_request_id": "1"}
    if isinstance(reply, protocol.Outcome):
        common |= {"is_error": False, "error": "SUCCESS"}
    assert json.loads(encode_reply(reply)) == common | fields
    assert decode_reply(encode_reply(reply)) == reply


def test_every_reply_is_in_the_table() -> None:
    assert {type(reply) for reply, _ in REPLIES} == set(get_args(protocol.AnyReply))


def test_what_is_known_beyond_the_published_fields_is_added() -> None:
    reply = protocol.LoadDone(
        unique_request_id=1,
        is_error=True,
        error=ErrorCode.UNEXPECTED,
        message="m",
        reason="busy",
        retry_after_ms=0,
        provider="p",
        warning="w",
    )
    assert json.loads(encode_reply(reply)) == {
        "type": "load_done",
        "unique_request_id": 1,
        "is_error": True,
        "error": "UNEXPECTED",
        "message": "m",
        "reason": "busy",
        "retry_after_ms": 0,
        "provider": "p",
        "warning": "w",
    }


def test_a_client_ignores_what_it_does_not_know() -> None:
    reply = decode_reply('{"type": "generate_ack", "unique_request_id": "1", "new": {"a": 1}}')
    assert reply == protocol.GenerateAck(unique_request_id="1")


@pytest.mark.parametrize("data", ["", "[]", '{"type": "new_thing", "unique_request_id": "1"}', '{"type": "load_ack"}'])
def test_what_is_no_reply_is_an_error(data: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_reply(data)


def test_the_codes_are_the_published_eight() -> None:
    assert [code.value for code in ErrorCode] == (
        "SUCCESS UNEXPECTED AUTHORIZATION INVALID_PROMPT INVALID_PROVIDER INVALID_MODEL TIMEOUT INTERRUPT".split()
    )


def test_what_is_sent_unasked_is_in_the_published_list() -> None:
    added = {"load_progress", "unload_done", "get_stats_done", "error"}
    types = {json.loads(encode_reply(reply))["type"] for reply, _ in REPLIES}
    assert types - added < protocol.PUBLISHED_TYPES
    assert "generate_streamed" in protocol.PUBLISHED_TYPES


def test_a_loads_own_fields_lie_beside_the_others_and_cannot_replace_them() -> None:
    fields: dict[str, object] = {"base_url": "http://x", "provider": "other"}
    load = protocol.Load(unique_request_id="1", provider="p", api_key="k", fields=fields)
    assert json.loads(encode_request(load)) == {
        "type": "load",
        "unique_request_id": "1",
        "provider": "p",
        "api_key": "k",
        "base_url": "http://x",
    }
    assert "k" not in repr(load).replace("unique", "")
    plain = protocol.Load(unique_request_id="1", provider="p")
    assert json.loads(encode_request(plain)) == {"type": "load", "unique_request_id": "1", "provider": "p"}


@pytest.mark.parametrize("request_id", ["1", 7, 'quote " and \\', "é\u2028"])
@pytest.mark.parametrize(
    "texts", [["one"], ["a\nb", 'say "x"', "\\", "é😀\u2028\x85", "\x00\x1f"], ["x" * 100_000, "y"]]
)
def test_chunks_are_encoded_together_as_they_are_one_by_one(texts: list[str], request_id: str | int) -> None:
    each = [encode_reply(protocol.GenerateStreamChunk(unique_request_id=request_id, chunk=text)) for text in texts]
    assert protocol.encode_chunks(request_id, texts) == each


@pytest.mark.parametrize("kind", [list, tuple])
def test_encoded_chunks_are_kept_by_nobody(kind: type[list[str] | tuple[str, ...]]) -> None:
    texts = kind("a text that no other test has".split("that"))
    before = sys.getrefcount(texts), sys.getrefcount(texts[0])
    for _ in range(10):
        protocol.encode_chunks("1", texts)
    assert (sys.getrefcount(texts), sys.getrefcount(texts[0])) == before
