"""Where the gateway listens, and how it ends."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from support.socket_io import FakeService, Polling, friend, gateway, joined_websocket, read
from support.waiting import bounded
from waifu_lollms import listening
from waifu_lollms.limits import Limits
from waifu_lollms.listening import bind
from websockets.exceptions import ConnectionClosed

from waifu_worker.gateway import CannotServe


@contextlib.contextmanager
def bound(host: str, port: int = 0) -> Iterator[tuple[list[socket.socket], str]]:
    sockets, address = bind(host, port)
    try:
        yield sockets, address
    finally:
        for each in sockets:
            each.close()


def test_localhost_is_both_addresses_on_one_port() -> None:
    with bound("localhost") as (sockets, address):
        names = [each.getsockname()[:2] for each in sockets]
        assert [name[0] for name in names] == ["127.0.0.1", "::1"]
        assert names[0][1] == names[1][1] == urlsplit(address).port
        assert urlsplit(address).hostname == "localhost"


@pytest.mark.parametrize(
    ("host", "reached"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")]
)
def test_another_host_is_one_address_that_users_can_open(host: str, reached: str) -> None:
    with bound(host) as (sockets, address):
        port = sockets[0].getsockname()[1]
        assert len(sockets) == 1
        assert address == f"http://{reached}:{port}"
        socket.create_connection((reached.strip("[]"), port)).close()


@pytest.mark.parametrize("taken", ["127.0.0.1", "::1"])
def test_a_port_that_is_in_use_is_told_with_the_key_that_changes_it(taken: str) -> None:
    with bound(taken) as (sockets, _):
        port = sockets[0].getsockname()[1]
        with pytest.raises(CannotServe, match=rf"port {port} on {taken} is in use.*gateway\.lollms\.port"):
            bind("localhost", port)
        # Nothing of the failed try holds the other address.
        other = "::1" if taken == "127.0.0.1" else "127.0.0.1"
        with bound(other, port):
            pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a" * 70, "\udc80", "..", "1.2.3.4.5"])
def test_an_address_that_is_not_ours_is_told(host: str) -> None:
    with pytest.raises(CannotServe, match=r"cannot listen on .*gateway\.lollms\.host"):
        bind(host, 0)


def test_without_ipv6_localhost_is_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = listening._open

    def no_v6(host: str, port: int) -> socket.socket:
        if host == "::1":
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return opened(host, port)

    monkeypatch.setattr(listening, "_open", no_v6)
    with bound("localhost") as (sockets, _):
        assert [each.getsockname()[0] for each in sockets] == ["127.0.0.1"]


def test_a_free_port_is_one_that_is_free_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = listening._open
    fails = iter([True, True, False])

    def often_taken(host: str, port: int) -> socket.socket:
        if host == "::1" and next(fails):
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return opened(host, port)

    monkeypatch.setattr(listening, "_open", often_taken)
    with bound("localhost") as (sockets, _):
        assert len(sockets) == 2
    monkeypatch.setattr(listening, "_FREE_PORT_TRIES", 0)
    with pytest.raises(CannotServe, match="found no port"):
        bind("localhost", 0)


async def test_both_addresses_serve_the_same_gateway(no_leaks: None) -> None:
    service = FakeService()
    async with gateway(service) as address:
        port = urlsplit(address).port
        for host in ("localhost", "127.0.0.1", "[::1]"):
            async with friend(f"http://{host}:{port}", ["websocket"]) as client:
                assert (await service.until("connected"))[1] == f"http://{host}:{port}"
                assert await client.echo("x") == []


async def test_at_the_end_everybody_is_told_and_nothing_stays(no_leaks: None, caplog: pytest.LogCaptureFixture) -> None:
    service = FakeService()
    async with contextlib.AsyncExitStack() as clients, aiohttp.ClientSession() as http:
        async with gateway(service) as address:
            websocket = await clients.enter_async_context(joined_websocket(address))
            await service.next("connected")
            polling = Polling(http, address)
            await polling.open()
            await service.next("connected")
            assert (await polling.next()).startswith("40")
            poll = asyncio.create_task(polling.next())
            # Somebody who reads nothing, one in the midst of a request, and one who says nothing at all.
            stuck = [await asyncio.open_connection("127.0.0.1", urlsplit(address).port) for _ in range(2)]
            stuck[0][1].write(b"POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: local")
            await polling.post('42["x"]')
            await service.next("received")
            await poll
            poll = asyncio.create_task(polling.next())
            await polling.post('42["y"]')
            await service.next("received")
            await poll
            last = asyncio.create_task(polling.next())
            await polling.post("3")
        assert [told[0] for told in service.told[-3:]] == ["disconnected", "disconnected", "closed"]
        with pytest.raises(ConnectionClosed):
            while True:
                assert await read(websocket) == "1"
        with contextlib.suppress(aiohttp.ClientError, AssertionError):
            assert await last == "1"
        for reader, writer in stuck:
            async with bounded():
                with contextlib.suppress(ConnectionError):
                    await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
    assert not [record for record in caplog.records if record.levelname != "INFO"], caplog.text


async def test_a_service_that_hangs_does_not_keep_it(no_leaks: None) -> None:
    class Hanging(FakeService):
        async def disconnected(self, sid: str) -> None:
            await super().disconnected(sid)
            await asyncio.Event().wait()

    service = Hanging()
    async with bounded():
        async with gateway(service, Limits(close_s=0.1)) as address:
            connected: Any = joined_websocket(address)
            websocket = await connected.__aenter__()
            await service.next("connected")
        await connected.__aexit__(None, None, None)
    assert websocket.close_code is not None
