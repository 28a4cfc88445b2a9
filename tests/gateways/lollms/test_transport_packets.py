"""What passes of what a client can send, without a socket."""

import contextlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from socketio.packet import CONNECT, DISCONNECT, EVENT
from waifu_lollms.packets import (
    EVENT_NAME,
    Json,
    Malformed,
    Packet,
    Stage,
    check_payload,
    encode_event,
    event_name,
    next_stage,
)
from waifu_lollms.rate import Bucket

GOOD = ["1", "3", "40", '42["x"]', '42["x",{"a":1}]', '420["x"]', "41", '451-["x",{"_placeholder":true,"num":0}]']
BAD = ["", "0", "2", "2probe", "3probe", "5", "6", "7", "x", "4", "4x", '4{"a":1}', "49", "1x", "\x00", "²", "4²", "é"]
DEEP = "[" * 100_000


@pytest.mark.parametrize("packet", GOOD)
def test_what_clients_send_passes_on_both_transports(packet: str) -> None:
    assert next_stage(Stage.OPEN, packet) is Stage.OPEN
    check_payload(packet.encode())


@pytest.mark.parametrize("packet", BAD)
def test_what_no_client_sends_is_malformed_on_both_transports(packet: str) -> None:
    with pytest.raises(Malformed):
        next_stage(Stage.OPEN, packet)
    with pytest.raises(Malformed):
        check_payload(packet.encode())


def test_attachments_are_bytes_in_frames_and_base64_in_payloads() -> None:
    assert next_stage(Stage.OPEN, b"\x00\xff") is Stage.OPEN
    check_payload(b"bAAH/")
    check_payload(b"b")
    for text in (b"bA", b"b####", "bé".encode()):
        with pytest.raises(Malformed):
            check_payload(text)
    with pytest.raises(Malformed):
        next_stage(Stage.OPEN, "bAAH/")


def test_a_payload_holds_sixteen_packets() -> None:
    check_payload("\x1e".join(["3"] * 16).encode())
    with pytest.raises(Malformed, match="too many"):
        check_payload("\x1e".join(["3"] * 17).encode())


def test_a_payload_is_utf_8() -> None:
    with pytest.raises(Malformed):
        check_payload(b'42["\xff"]')


def test_an_upgrade_is_a_probe_then_the_upgrade_then_as_usual() -> None:
    stage = Stage.PROBE
    for frame in ("2probe", "5", "40"):
        stage = next_stage(stage, frame)
    assert stage is Stage.OPEN


@pytest.mark.parametrize(
    ("stage", "frame"),
    [
        (Stage.PROBE, "5"),
        (Stage.PROBE, "2"),
        (Stage.PROBE, b"2probe"),
        (Stage.UPGRADE, "2probe"),
        (Stage.UPGRADE, "40"),
    ],
)
def test_an_upgrade_takes_nothing_else(stage: Stage, frame: str | bytes) -> None:
    with pytest.raises(Malformed):
        next_stage(stage, frame)


@pytest.mark.parametrize("name", ["hello", "connect", "disconnect", "event", "*", "", 5, None, ["a"], {"a": 1}])
def test_every_event_arrives_under_one_name_with_its_own_as_argument(name: object) -> None:
    packet = Packet(encoded_packet=f"2{json.dumps([name, 1, 2])}")
    assert packet.packet_type == EVENT
    assert packet.data == [EVENT_NAME, name, 1, 2]


def test_other_packets_stay_what_they_are() -> None:
    connect = Packet(encoded_packet='0{"token":"x"}')
    assert (connect.packet_type, connect.data) == (CONNECT, {"token": "x"})
    assert Packet(encoded_packet="0/other,").namespace == "/other"
    assert Packet(encoded_packet="1").packet_type == DISCONNECT


def test_attachments_come_to_their_places() -> None:
    text = '52-["x",{"a":{"_placeholder":true,"num":1}},[{"_placeholder":true,"num":0}]]'
    packet = Packet(encoded_packet=text)
    assert not packet.add_attachment(b"zero")
    assert packet.add_attachment(b"one")
    assert packet.data == [EVENT_NAME, "x", {"a": b"one"}, [b"zero"]]


@pytest.mark.parametrize(
    "packet",
    [
        b"2",
        b"",
        "",
        "x",
        "2",
        "2[]",
        "2{}",
        "2null",
        '2"x"',
        '2["x"',
        f"2{DEEP}",
        '2/other,["x"]',
        '21-["x"]',
        '5["x"]',
        '50-["x"]',
        '511-["x"]',
        '599999999999-["x"]',
        '51-["x",{"_placeholder":true,"num":1}]',
        '51-["x",{"_placeholder":true,"num":-1}]',
        '51-["x",{"_placeholder":true,"num":"0"}]',
        '51-["x",{"_placeholder":true,"num":true}]',
        f'51-["x",{"[" * 900}{"]" * 900}]',
        "3[]",
        "4",
        "60-[]",
        "61-[]",
        "01-{}",
        "11-",
        f"2{'1' * 101}[]",
    ],
)
def test_a_packet_that_would_wedge_its_session_is_malformed(packet: str | bytes) -> None:
    with pytest.raises(Malformed):
        Packet(encoded_packet=packet)


@given(st.text(max_size=40) | st.binary(max_size=40) | st.builds("2{}".format, st.text(max_size=40)))
def test_nothing_that_is_sent_raises_anything_else(data: str | bytes) -> None:
    checks: list[Callable[[], object]] = [partial(next_stage, stage, data) for stage in Stage]
    checks.append(partial(check_payload, data if isinstance(data, bytes) else data.encode()))
    checks.append(partial(Packet, encoded_packet=data))
    for check in checks:
        with contextlib.suppress(Malformed):
            check()


def test_numbers_and_texts_that_could_go_nowhere_are_made_harmless() -> None:
    assert Json.loads('["\\ud800","\\ud83d\\ude00","\\u00e9"]') == ["?", "😀", "é"]
    assert Json.loads('{"\\udfff":{"a":["\\udc00",1]}}') == {"?": {"a": ["?", 1]}}
    assert Json.loads("1" * 100) == int("1" * 100)
    assert Json.loads("1" * 5000) == float("inf")
    with pytest.raises(ValueError, match="deep"):
        Json.loads(DEEP)


def test_events_go_out_as_socket_io() -> None:
    assert encode_event("text_chunk", {"chunk": "é\ud800"}) == '2["text_chunk",{"chunk":"\\u00e9\\ud800"}]'
    with pytest.raises(ValueError, match="JSON"):
        encode_event("x", {"a": float("nan")})


@pytest.mark.parametrize(("name", "text"), [("x", "x"), (5, "5"), (None, "null"), ([1], "[1]"), (b"x", "\"b'x'\"")])
def test_a_name_that_is_no_text_becomes_one(name: Any, text: str) -> None:
    assert event_name(name) == text


def test_a_bucket_holds_two_seconds_and_fills_with_time() -> None:
    bucket = Bucket(5, now=100.0)
    assert [bucket.take(100.0) for _ in range(11)] == [True] * 10 + [False]
    assert not bucket.take(100.1)
    assert bucket.take(100.2)
    assert not bucket.take(100.3)
    assert [bucket.take(1000.0) for _ in range(11)] == [True] * 10 + [False]
