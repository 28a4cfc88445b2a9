"""Socket.IO clients on one side, the service on the other: who is let in, in which order events come, how fast.

An acknowledgement that a client asks for says that its event came in, and carries nothing: the reply is an event.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import socketio
from socketio.exceptions import ConnectionRefusedError as Refused

from waifu_lollms.interfaces import Send, Service
from waifu_lollms.limits import Limits
from waifu_lollms.outgoing import Outgoing
from waifu_lollms.packets import EVENT_NAME, Malformed, Packet, encode_event, event_name
from waifu_lollms.rate import Bucket
from waifu_lollms.sessions import Sessions
from waifu_lollms.settings import GatewaySettings
from waifu_lollms.tasks import Tasks
from waifu_worker.doors import carries_token, is_token

_log: Final = logging.getLogger(__name__)
_PING_S: Final = 25
_PONG_S: Final = 20


@dataclass(slots=True, eq=False)
class _Client:
    sid: str
    session: str
    base_url: str
    outgoing: Outgoing
    bucket: Bucket
    inbox: "deque[tuple[str, tuple[object, ...], int]]" = field(default_factory=deque)
    inbox_bytes: int = 0
    arriving_bytes: int = 0
    gone: bool = False
    registered: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Transport:
    """All clients there are. `server` is the library's, and `sessions` what lies beneath, for engine.io over ASGI."""

    def __init__(
        self,
        service: Service,
        settings: GatewaySettings,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._settings = settings
        self._limits = limits
        self._clock = clock
        self._clients: dict[str, _Client] = {}
        self._by_session: dict[str, _Client] = {}
        self._tasks = Tasks()
        self._farewells: set[asyncio.Task[None]] = set()
        self.server = self._make_server()
        most = settings.connections + limits.spare_sessions
        self.sessions = Sessions(self.server.eio, most, limits)
        self._listen()

    def _make_server(self) -> Any:
        return socketio.AsyncServer(
            async_mode="asgi",
            # Origins are the doors' business, who also know Host; the library does nothing about either.
            cors_allowed_origins=[],
            async_handlers=False,
            serializer=Packet,
            logger=logging.getLogger("socketio"),
            engineio_logger=logging.getLogger("engineio"),
            max_http_buffer_size=self._limits.message_bytes,
            ping_interval=_PING_S,
            ping_timeout=_PONG_S,
            http_compression=False,
        )

    def _listen(self) -> None:
        self.server.on("connect", self._on_connect)
        self.server.on("disconnect", self._on_disconnect)
        self.server.on(EVENT_NAME, self._on_event)
        engine = self.server.eio
        engine.create_queue = lambda: Outgoing(self._limits.room_bytes)
        engine.on("connect", self._around(engine.handlers["connect"], self.sessions.begins))
        engine.on("disconnect", self._around(engine.handlers["disconnect"], self.sessions.ends))
        self._deliver: Callable[[str, object], Awaitable[None]] = engine.handlers["message"]
        engine.on("message", self._on_message)

    @staticmethod
    def _around(inner: Callable[..., Awaitable[None]], ours: Callable[..., None]) -> Callable[..., Awaitable[None]]:
        async def both(*arguments: Any) -> None:
            ours(*arguments)
            await inner(*arguments)

        return both

    # Clients.

    async def _on_connect(self, sid: str, environ: Mapping[str, Any], auth: object) -> None:
        """Runs through without a wait, so that the library answers before the client's own task sends anything."""
        session = self.server.manager.eio_sid_from_sid(sid, "/")
        self._admit(environ, auth)
        self.sessions.connected(session)
        client = _Client(
            sid=sid,
            session=session,
            base_url=f"http://{environ['HTTP_HOST']}",
            outgoing=self.server.eio.sockets[session].queue,
            bucket=Bucket(self._settings.events_per_s, self._clock()),
        )
        self._clients[sid] = self._by_session[session] = client
        self._tasks.start(self._serve(client))

    def _admit(self, environ: Mapping[str, Any], auth: object) -> None:
        expected = self._settings.token
        if expected is not None:
            offered = auth.get("token") if isinstance(auth, dict) else None
            by_auth = isinstance(offered, str) and is_token(expected, offered)
            by_header = carries_token(expected, [environ.get("HTTP_AUTHORIZATION", "")])
            if not by_auth | by_header:
                raise Refused('A token is needed: send {"token": "..."} as Socket.IO\'s auth.')
        if len(self._clients) >= self._settings.connections:
            raise Refused("Too many programs are connected; gateway.lollms.connections says how many may be.")

    async def _on_disconnect(self, sid: str, _reason: str) -> None:
        client = self._clients.pop(sid)
        del self._by_session[client.session]
        client.gone = True
        client.inbox.clear()
        client.news.set()
        client.outgoing.release()
        if self.sessions.find(client.session) is not None:
            self.sessions.expect_connect(client.session)
        farewell = self._tasks.start(self._take_leave(client))
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    async def _take_leave(self, client: _Client) -> None:
        await client.registered.wait()
        await self._service.disconnected(client.sid)

    async def _serve(self, client: _Client) -> None:
        """One client's task: its events, one after the other."""
        try:
            await self._service.connected(client.sid, self._sender(client), client.base_url)
        except Exception:
            _log.exception("a bug: please report it")
            await self.sessions.drop(client.session)
        finally:
            client.registered.set()
        while not client.gone:
            client.news.clear()
            while client.inbox:
                event, arguments, size = client.inbox.popleft()
                client.inbox_bytes -= size
                await self._hand_over(client, event, arguments)
            await client.news.wait()

    async def _hand_over(self, client: _Client, event: str, arguments: tuple[object, ...]) -> None:
        try:
            await self._service.received(client.sid, event, arguments)
        except Exception:
            _log.exception("a bug: please report it")

    # Events.

    async def _on_message(self, session: str, data: str | bytes) -> None:
        """One message of engine.io, before the library reads it."""
        if self.sessions.find(session) is None:
            # It ended with an earlier packet of the same payload.
            return
        kind = data[:1] if isinstance(data, str) else None
        client = self._by_session.get(session)
        # We ask for no acknowledgement; and what a refused or leaving client still sends belongs to nobody.
        if kind == "3" or (client is None and kind != "0"):
            return
        if client is not None:
            client.arriving_bytes += len(data)
        try:
            await self._deliver(session, data)
        except Malformed as error:
            _log.info("a client was disconnected: it sent %s", error)
            await self.sessions.drop(session)
        except Exception:
            _log.exception("a client was disconnected: its message could not be read")
            await self.sessions.drop(session)
        await self.sessions.hold_back(session)

    async def _on_event(self, sid: str, name: object, *arguments: object) -> None:
        client = self._clients[sid]
        size, client.arriving_bytes = client.arriving_bytes, 0
        if not client.bucket.take(self._clock()):
            await self._busy(client, "Too many events at once; this one was not handled. Please send slower.")
        elif (
            len(client.inbox) >= self._limits.inbox_events or client.inbox_bytes + size > self._limits.inbox_bytes
        ) and client.inbox:
            await self._busy(client, "Too many events wait to be handled; this one was not. Please wait for replies.")
        else:
            client.inbox.append((event_name(name), arguments, size))
            client.inbox_bytes += size
            client.news.set()

    async def _busy(self, client: _Client, message: str) -> None:
        send = self._sender(client)
        for event in ("buzzy", "busy"):
            await send(event, {"message": message})

    def _sender(self, client: _Client) -> Send:
        async def send(event: str, payload: Mapping[str, object]) -> None:
            if client.gone:
                # Whoever sends on and on must let others run, also where there is nothing to wait for.
                await asyncio.sleep(0)
                return
            await self.server.eio.send(client.session, encode_event(event, payload))
            await self.sessions.hold_back(client.session)

        return send

    async def close(self) -> None:
        """End all sessions, and let the service know, for a moment at most. Then nothing of it runs any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.close_s):
                await self.sessions.cut_all()
                await self.server.shutdown()
                if self._farewells:
                    await asyncio.wait(self._farewells)
        await self.sessions.close()
        await self._tasks.close()
