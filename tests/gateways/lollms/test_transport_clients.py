"""Socket.IO clients of the gateway's transport: python-socketio's own, and raw frames."""

import asyncio
import json
import logging
from typing import Any

import aiohttp
import pytest
from socketio.async_manager import AsyncManager
from support.socket_io import (
    TOKEN,
    FakeService,
    Polling,
    event,
    friend,
    gateway,
    joined_websocket,
    raw_websocket,
    read,
    refusal,
)
from support.waiting import bounded
from waifu_lollms.limits import Limits
from waifu_lollms.settings import GatewaySettings
from waifu_lollms.transport import Transport
from websockets.exceptions import ConnectionClosed

TRANSPORTS = [["polling"], ["websocket"], ["polling", "websocket"]]


@pytest.mark.parametrize("transports", TRANSPORTS, ids="+".join)
async def test_a_client_comes_talks_and_goes_on_every_transport(transports: list[str], no_leaks: None) -> None:
    service = FakeService()
    async with gateway(service) as address:
        async with friend(address, transports) as client:
            sid, base_url = await service.next("connected")
            assert client.client.get_sid() == sid
            assert base_url == address
            assert await client.echo("list_available_bindings") == []
            assert await client.echo("generate_text", {"prompt": "Hi", "n_predicts": 5}) == [
                {"prompt": "Hi", "n_predicts": 5}
            ]
            assert await client.echo("select_model", "one", None, {"three": [3]}) == ["one", None, {"three": [3]}]
            assert await client.echo("binary", {"data": b"\x00\xff"}, b"") == [{"data": "00ff"}, ""]
            # An upgrade has happened by now where there is one, and kept the session.
            assert client.client.get_sid() == sid
            assert client.client.transport() == transports[-1]
        assert await service.until("disconnected") == (sid,)
    assert [told for told in service.told if told[0] != "received"] == [
        ("connected", sid, address),
        ("disconnected", sid),
        ("closed",),
    ]


async def test_events_named_like_the_life_cycle_are_events(no_leaks: None) -> None:
    service = FakeService()
    async with gateway(service) as address, joined_websocket(address) as websocket:
        await service.next("connected")
        for name in ("connect", "disconnect", "event", "*", "message", "connect_error", "__disconnect_final", ""):
            await websocket.send(f"42{json.dumps([name, {'a': 1}])}")
            assert await service.next("received") == (name, ({"a": 1},))
            assert event(await read(websocket))[1]["event"] == name
        for shown in ("5", "null", '["a"]', '{"b": 1}'):
            await websocket.send(f"42[{shown}]")
            assert await service.next("received") == (shown, ())
            await read(websocket)
    assert len([told for told in service.told if told[0] in ("connected", "disconnected")]) == 2


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_an_acknowledgement_comes_and_says_only_that_the_event_did(transport: str) -> None:
    service = FakeService()
    service.gate.clear()
    async with gateway(service) as address, friend(address, [transport]) as client:
        async with bounded():
            assert await client.client.call("list_available_models", {"a": 1}) is None
        service.gate.set()
        assert await client.next() == ("echo", {"event": "list_available_models", "arguments": [{"a": 1}]})


async def test_the_order_of_one_clients_events_is_kept_and_nobody_waits_for_anothers() -> None:
    service = FakeService()
    service.gate.clear()
    async with gateway(service) as address, joined_websocket(address) as slow:
        await service.next("connected")
        for number in range(50):
            await slow.send(f'42["n",{number}]')
        assert await service.next("received") == ("n", (0,))
        # The library goes on reading: what waits is the service's queue, not the connection.
        await slow.send('421["acked"]')
        assert await read(slow) == "431[]"
        service.gate.set()
        assert [event(await read(slow))[1]["arguments"] for _ in range(50)] == [[number] for number in range(50)]
        assert event(await read(slow))[1]["event"] == "acked"


async def test_another_client_is_served_while_ones_event_takes_long() -> None:
    service = FakeService()
    service.gate.clear()
    async with gateway(service) as address, joined_websocket(address) as first, joined_websocket(address) as second:
        await first.send('42["first"]')
        await service.until("received")
        await second.send('42["second"]')
        assert await service.next("received") == ("second", ())


async def test_a_client_that_is_gone_is_told_once_even_in_the_middle_of_its_event(no_leaks: None) -> None:
    service = FakeService()
    service.gate.clear()
    async with gateway(service) as address:
        async with joined_websocket(address) as websocket:
            (sid, _) = await service.next("connected")
            await websocket.send('42["long"]')
            await websocket.send('42["never handed over"]')
            await service.next("received")
            websocket.transport.abort()
            assert await service.next("disconnected") == (sid,)
        service.gate.set()
        # It is gone: this must neither raise nor wait.
        async with bounded():
            await service.sends[sid]("late", {})
    assert [told[0] for told in service.told] == ["connected", "received", "disconnected", "closed"]


async def test_a_polling_client_that_hangs_up_in_its_poll_is_gone_at_once(no_leaks: None) -> None:
    service = FakeService()
    async with gateway(service) as address:
        async with aiohttp.ClientSession() as http:
            polling = Polling(http, address)
            await polling.open()
            (sid, _) = await service.next("connected")
            assert (await polling.next()).startswith("40")
            poll = asyncio.create_task(polling.next())
            assert await polling.post('42["x"]') == 200
            await service.next("received")
            assert event(await poll)[0] == "echo"
            poll = asyncio.create_task(polling.next())
            assert await polling.post('421["acked"]') == 200
            await service.next("received")
            await poll
            hanging = asyncio.create_task(polling.get())
            assert await polling.post("3") == 200
            hanging.cancel()
        assert await service.next("disconnected") == (sid,)


async def test_a_polling_client_leaves_with_a_packet() -> None:
    service = FakeService()
    async with gateway(service) as address, aiohttp.ClientSession() as http:
        polling = Polling(http, address)
        await polling.open()
        (sid, _) = await service.next("connected")
        assert await polling.post("41", "1") == 200
        assert await service.next("disconnected") == (sid,)
        assert (await polling.get())[0] == 400


async def test_a_client_may_leave_the_namespace_and_come_back_as_a_new_one() -> None:
    service = FakeService()
    async with gateway(service) as address, joined_websocket(address) as websocket:
        (first, _) = await service.next("connected")
        await websocket.send("41")
        assert await service.next("disconnected") == (first,)
        await websocket.send('42["to nobody"]')
        await websocket.send("40")
        assert (await read(websocket)).startswith("40")
        (second, _) = await service.next("connected")
        assert second != first


async def test_other_namespaces_are_refused_and_a_second_connect_changes_nothing() -> None:
    service = FakeService()
    async with gateway(service) as address, joined_websocket(address) as websocket:
        await service.next("connected")
        await websocket.send("40/admin,")
        assert await read(websocket) == '44/admin,"Unable to connect"'
        await websocket.send("40")
        assert await read(websocket) == '44"Unable to connect"'
        await websocket.send("41/admin,")
        await websocket.send('42["x"]')
        assert await service.next("received") == ("x", ())


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "x",
        "0",
        "2probe",
        "5",
        "6",
        "7",
        "4",
        "4x",
        "42",
        "42[]",
        '42{"a":1}',
        '42["x"',
        '42/admin,["x"]',
        "44{}",
        "460-[]",
        '450-["x"]',
        '451-["x"]x',
        '4511-["x"]',
        '451-["x",{"_placeholder":true,"num":7}]',
        "42" + "[" * 100_000,
        b"\x00",
        b"4",
        "é",
    ],
    ids=lambda frame: repr(frame)[:24],
)
async def test_a_malformed_frame_costs_its_sender_the_connection_and_nobody_else(
    frame: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    service = FakeService()
    async with gateway(service, Limits(leave_s=0)) as address, joined_websocket(address) as neighbour:
        await service.next("connected")
        async with joined_websocket(address) as websocket:
            (sid, _) = await service.next("connected")
            await websocket.send(frame)
            with pytest.raises(ConnectionClosed):
                while True:
                    assert await read(websocket) == "1"
            assert await service.next("disconnected") == (sid,)
        await neighbour.send('42["x"]')
        assert event(await read(neighbour))[0] == "echo"
    assert not [record for record in caplog.records if record.exc_info], caplog.text


async def test_text_where_an_attachment_is_due_ends_the_connection() -> None:
    service = FakeService()
    async with gateway(service, Limits(leave_s=0)) as address, joined_websocket(address) as websocket:
        await websocket.send('451-["x",{"_placeholder":true,"num":0}]')
        await websocket.send('42["y"]')
        await service.until("disconnected")
    assert not [told for told in service.told if told[0] == "received"]


@pytest.mark.parametrize(
    "packets",
    [["x"], [""], ["42[]"], ["3"] * 17, ["5"], ["2probe"], ["b###"], ['42["a"]', "6"], ['451-["x"]', "42"]],
    ids=lambda packets: repr(packets)[:24],
)
async def test_a_malformed_payload_ends_its_session(packets: list[str]) -> None:
    service = FakeService()
    async with gateway(service, Limits(leave_s=0)) as address, aiohttp.ClientSession() as http:
        polling = Polling(http, address)
        await polling.open()
        (sid, _) = await service.next("connected")
        await polling.post(*packets)
        assert await service.next("disconnected") == (sid,)
        assert (await polling.post("3")) == 400
    assert not [told for told in service.told if told[0] == "received"]


async def test_binary_events_come_over_polling_in_one_payload_or_several() -> None:
    service = FakeService()
    async with gateway(service) as address, aiohttp.ClientSession() as http:
        polling = Polling(http, address)
        await polling.open()
        await service.next("connected")
        assert await polling.post('451-["x",{"_placeholder":true,"num":0}]', "bAAE=") == 200
        assert await service.next("received") == ("x", (b"\x00\x01",))
        assert await polling.post('451-["y",{"_placeholder":true,"num":0}]') == 200
        assert await polling.post("bAAI=") == 200
        assert await service.next("received") == ("y", (b"\x00\x02",))


async def test_an_upgrade_that_goes_wrong_leaves_the_session_to_polling() -> None:
    service = FakeService()
    async with gateway(service) as address, aiohttp.ClientSession() as http:
        polling = Polling(http, address)
        opened = await polling.open()
        assert opened["upgrades"] == ["websocket"]
        assert (opened["pingInterval"], opened["pingTimeout"]) == (25_000, 20_000)
        assert opened["maxPayload"] == 1_000_000
        async with raw_websocket(address, f"&sid={polling.session}") as websocket:
            await websocket.send("40")
            with pytest.raises(ConnectionClosed):
                await read(websocket)
        assert (await polling.next()).startswith("40")
        await polling.post('42["still here"]')
        assert event(await polling.next())[1]["event"] == "still here"


async def test_once_upgraded_a_session_has_no_polling_any_more() -> None:
    service = FakeService()
    async with gateway(service) as address, aiohttp.ClientSession() as http:
        polling = Polling(http, address)
        await polling.open()
        (sid, _) = await service.next("connected")
        async with raw_websocket(address, f"&sid={polling.session}") as websocket:
            await websocket.send("2probe")
            assert await read(websocket) == "3probe"
            await websocket.send("5")
            assert json.loads((await read(websocket)).removeprefix("40")) == {"sid": sid}
            await websocket.send('42["over websocket"]')
            assert await service.next("received") == ("over websocket", ())
            assert (await polling.get())[0] == 400
            assert await polling.post("3") == 400
        assert await service.until("disconnected") == (sid,)


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        ({"token": TOKEN}, {}),
        (None, {"Authorization": f"Bearer {TOKEN}"}),
        ({"token": "wrong"}, {"Authorization": f"bearer {TOKEN}"}),
    ],
)
@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_the_token_lets_a_client_in(transport: str, auth: Any, headers: dict[str, str]) -> None:
    service = FakeService()
    async with (
        gateway(service, token=TOKEN) as address,
        friend(address, [transport], auth=auth, headers=headers) as client,
    ):
        assert await client.echo("x") == []


@pytest.mark.parametrize(
    "auth",
    [
        None,
        {},
        {"token": ""},
        {"token": TOKEN[:-1]},
        {"token": TOKEN + "x"},
        {"token": None},
        {"token": [TOKEN]},
        {"Token": TOKEN},
        {"token": "\ud800"},
        {"token": "é" * 20},
        TOKEN,
        [TOKEN],
        5,
        True,
    ],
    ids=lambda auth: json.dumps(auth)[:20],
)
async def test_without_the_token_a_client_is_told_what_it_needs(auth: Any, caplog: pytest.LogCaptureFixture) -> None:
    # As the gateway's own set-up has it (life.py), whatever level other tests left: below it they log what they read.
    for library in ("socketio", "engineio"):
        caplog.set_level(logging.WARNING, logger=library)
    service = FakeService()
    async with gateway(service, token=TOKEN) as address:
        told = await refusal(address, "websocket", auth=auth, headers={"Authorization": f"Basic {TOKEN}"})
        assert told == {"message": 'A token is needed: send {"token": "..."} as Socket.IO\'s auth.'}
    assert service.told == [("closed",)]
    assert TOKEN not in caplog.text


async def test_more_programs_than_may_be_are_told_so_and_a_place_gets_free_again() -> None:
    service = FakeService()
    async with gateway(service, connections=2) as address, friend(address, ["websocket"]):
        async with friend(address, ["polling"]):
            told = await refusal(address, "websocket")
            assert told["message"].startswith("Too many programs are connected")
        await service.until("disconnected")
        async with friend(address, ["websocket"]) as client:
            assert await client.echo("x") == []


async def test_sessions_that_belong_to_no_program_are_bounded_too() -> None:
    service = FakeService()
    limits = Limits(spare_sessions=1)
    async with gateway(service, limits, connections=1) as address, aiohttp.ClientSession() as http:
        polls = [Polling(http, address) for _ in range(3)]
        assert [(await polling.get())[0] for polling in polls] == [200, 200, 503]


class Faulty(FakeService):
    """A service with bugs."""

    async def connected(self, sid: str, send: Any, base_url: str) -> None:
        await super().connected(sid, send, base_url)
        if len(self.sends) == 1:
            raise RuntimeError("a bug where a client connects")

    async def received(self, sid: str, event: str, arguments: tuple[object, ...]) -> None:
        if event == "bad":
            raise RuntimeError("a bug in an event")
        await super().received(sid, event, arguments)


async def test_a_bug_of_the_service_is_logged_and_wedges_nobody(caplog: pytest.LogCaptureFixture) -> None:
    service = Faulty()
    async with gateway(service) as address:
        async with raw_websocket(address) as first:
            await first.send("40")
            (sid, _) = await service.next("connected")
            assert await service.next("disconnected") == (sid,)
        async with joined_websocket(address) as second:
            await service.next("connected")
            await second.send('42["bad"]')
            await second.send('42["good"]')
            assert event(await read(second))[1]["event"] == "good"
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == [
        "a bug where a client connects",
        "a bug in an event",
    ]


async def test_the_manager_is_the_one_in_memory() -> None:
    transport = Transport(FakeService(), GatewaySettings(), Limits())
    assert type(transport.server.manager) is AsyncManager
