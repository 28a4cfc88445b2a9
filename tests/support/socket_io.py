"""The transport of the LoLLMs gateway over a service that only listens, and clients that can send anything."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import socketio
from socketio.exceptions import ConnectionError as NotConnected
from support.waiting import bounded
from waifu_lollms.app import Logo
from waifu_lollms.interfaces import Send
from waifu_lollms.life import serving
from waifu_lollms.limits import Limits
from waifu_lollms.settings import GatewaySettings
from websockets.asyncio.client import ClientConnection, connect

PATH: Final = "/socket.io/?EIO=4&transport="
SEPARATOR: Final = "\x1e"
TOKEN: Final = "a-token-of-the-tests"


class FakeService:
    """Writes down what it is told, and answers each event with `echo` once `gate` is open."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.sends: dict[str, Send] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self._unread: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()

    async def next(self, kind: str) -> tuple[Any, ...]:
        """The next thing it was told, which must be of this kind, without its kind."""
        async with bounded():
            told = await self._unread.get()
        assert told[0] == kind, told
        return told[1:]

    async def until(self, kind: str) -> tuple[Any, ...]:
        """The next thing of this kind, whatever comes before it."""
        async with bounded():
            while (told := await self._unread.get())[0] != kind:
                pass
        return told[1:]

    def _note(self, *told: Any) -> None:
        self.told.append(told)
        self._unread.put_nowait(told)

    async def connected(self, sid: str, send: Send, base_url: str) -> None:
        self.sends[sid] = send
        self._note("connected", sid, base_url)

    async def received(self, sid: str, event: str, arguments: tuple[object, ...]) -> None:
        self._note("received", event, arguments)
        await self.gate.wait()
        shown = json.loads(json.dumps(arguments, default=lambda data: data.hex()))
        await self.sends[sid]("echo", {"event": event, "arguments": shown})

    async def disconnected(self, sid: str) -> None:
        self._note("disconnected", sid)

    async def close(self) -> None:
        self._note("closed")


def no_logo(_key: str) -> Logo | None:
    return None


@asynccontextmanager
async def gateway(
    service: FakeService, limits: Limits | None = None, find_logo: Any = no_logo, **settings: Any
) -> AsyncIterator[str]:
    """The real server on a free port; its address."""
    async with serving(GatewaySettings(port=0, **settings), service, find_logo, limits) as address:
        yield address


class Polling:
    """A session of engine.io over polling, packet by packet."""

    def __init__(self, http: aiohttp.ClientSession, address: str, headers: Mapping[str, str] = {}) -> None:
        self.http = http
        self.url = f"{address}{PATH}polling"
        self.headers = dict(headers)
        self.session = ""
        self._packets: list[str] = []

    async def open(self, *, auth: object = None) -> dict[str, Any]:
        """Begin a session, and connect to the namespace; what engine.io said."""
        status, text = await self.get()
        assert status == 200, text
        opened: dict[str, Any] = json.loads(text[1:])
        self.session = opened["sid"]
        self.url += f"&sid={self.session}"
        assert await self.post("40" if auth is None else f"40{json.dumps(auth)}") == 200
        return opened

    async def get(self) -> tuple[int, str]:
        """One GET: a handshake, or a poll."""
        async with bounded(), self.http.get(self.url, headers=self.headers) as response:
            return response.status, await response.text()

    async def post(self, *packets: str) -> int:
        """One POST; its status."""
        body = SEPARATOR.join(packets).encode()
        async with bounded(), self.http.post(self.url, data=body, headers=self.headers) as response:
            await response.read()
            return response.status

    async def next(self) -> str:
        """The next packet that says something."""
        while not self._packets:
            status, text = await self.get()
            assert status == 200, text
            self._packets += [packet for packet in text.split(SEPARATOR) if packet != "6"]
        return self._packets.pop(0)


@asynccontextmanager
async def raw_websocket(address: str, query: str = "", **options: Any) -> AsyncIterator[ClientConnection]:
    """A WebSocket to the endpoint, before its first frame was read."""
    url = f"{address.replace('http', 'ws', 1)}{PATH}websocket{query}"
    async with bounded():
        connection = await connect(url, compression=None, ping_interval=None, max_size=None, **options)
    async with connection:
        yield connection


async def read(websocket: ClientConnection) -> str:
    """Its next frame."""
    async with bounded():
        frame = await websocket.recv()
    assert isinstance(frame, str)
    return frame


@asynccontextmanager
async def joined_websocket(address: str) -> AsyncIterator[ClientConnection]:
    """A WebSocket whose client is connected to the namespace."""
    async with raw_websocket(address) as websocket:
        assert (await read(websocket)).startswith("0{")
        await websocket.send("40")
        assert (await read(websocket)).startswith("40{")
        yield websocket


def event(frame: str) -> tuple[str, Any]:
    """Name and payload of a Socket.IO event."""
    assert frame.startswith("42"), frame
    name, payload = json.loads(frame[2:])
    return name, payload


class Friend:
    """python-socketio's own client."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.left = asyncio.Event()
        client.on("*", self._hear)
        client.on("disconnect", self._leave)

    async def _hear(self, name: str, payload: Any = None) -> None:
        self.heard.put_nowait((name, payload))

    async def _leave(self, _reason: str) -> None:
        self.left.set()

    async def next(self) -> tuple[str, Any]:
        """The next event."""
        async with bounded():
            return await self.heard.get()

    async def echo(self, name: str, *arguments: Any) -> Any:
        """Send an event; what the service saw of it."""
        await self.client.emit(name, arguments if arguments else None)
        heard, payload = await self.next()
        assert heard == "echo", heard
        assert payload["event"] == name
        return payload["arguments"]


@asynccontextmanager
async def friend(address: str, transports: list[str] | None = None, **options: Any) -> AsyncIterator[Friend]:
    """Connected while the block runs."""
    async with aiohttp.ClientSession() as http:
        client = socketio.AsyncClient(reconnection=False, http_session=http)
        it = Friend(client)
        async with bounded():
            await client.connect(address, transports=transports, **options)
        try:
            yield it
        finally:
            async with bounded():
                await client.disconnect()


async def refusal(address: str, transport: str, **options: Any) -> Any:
    """Why the gateway does not let a client in, as it is told."""
    async with aiohttp.ClientSession() as http:
        client = socketio.AsyncClient(reconnection=False, http_session=http)
        told: asyncio.Queue[Any] = asyncio.Queue()

        async def refused(why: Any) -> None:
            told.put_nowait(why)

        client.on("connect_error", refused)
        with contextlib.suppress(NotConnected):
            async with bounded():
                await client.connect(address, transports=[transport], **options)
        async with bounded():
            return await told.get()
