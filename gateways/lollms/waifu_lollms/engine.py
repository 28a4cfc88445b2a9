"""engine.io over ASGI, in front of the library: only requests that it understands reach it, whole and bounded.

Behind the doors: who asks is already known to be allowed.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs

from waifu_lollms.answers import Scope, Send, answer
from waifu_lollms.limits import Limits
from waifu_lollms.packets import Malformed, Stage, check_payload, next_stage
from waifu_lollms.sessions import LINK, Sessions

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]

# The library joins headers of one name and reads more of them than the server does that let the request in.
_PASSED_ON: Final = frozenset({b"host", b"authorization", b"user-agent"})
_AS_UPGRADE: Final = ((b"connection", b"upgrade"), (b"upgrade", b"websocket"))
_LOCK: Final = "waifu_lollms.lock"
# As JavaScript's server words it, which clients read.
_UNKNOWN: Final = (400, '{"code":1,"message":"Session ID unknown"}\n')
_MALFORMED_CODE: Final = 1002


class Engine:
    """The endpoint `/socket.io/`."""

    def __init__(self, server: Any, sessions: Sessions, limits: Limits) -> None:
        self._server = server
        self._sessions = sessions
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket. Cancelling it ends the session that it belongs to."""
        try:
            query = parse_qs(scope["query_string"].decode("ascii"), keep_blank_values=True, max_num_fields=32)
        except ValueError:
            return await answer(scope, send, 400, "The query cannot be read.\n")
        session = query["sid"][0] if "sid" in query else None
        if (refusal := self._refusal(scope, query, session)) is not None:
            return await answer(scope, send, *refusal)
        if scope["type"] == "websocket":
            return await self._websocket(scope, receive, send, session)
        if session is None:
            return await self._hand_on(scope, b"", send)
        if scope["method"] == "GET":
            return await self._poll(scope, receive, send, session)
        return await self._post(scope, receive, send, session)

    def _refusal(self, scope: Scope, query: dict[str, list[str]], session: str | None) -> tuple[int, str] | None:
        transport = "websocket" if scope["type"] == "websocket" else "polling"
        if any(len(values) > 1 for values in query.values()) or "j" in query:
            return 400, "JSONP is not served, and no field may stand in the query twice.\n"
        if query.get("transport", ["polling"])[0] != transport:
            return 400, "This request does not fit the transport that it names.\n"
        if session is None:
            if transport == "polling" and scope["method"] != "GET":
                return 400, "A session begins with GET.\n"
            if query.get("EIO") != ["4"]:
                return 400, "Engine.IO 4 is spoken here: Socket.IO clients of version 3 or newer.\n"
            return (503, "Too many programs are connected.\n") if self._sessions.are_full() else None
        found = self._sessions.find(session)
        if found is None or found.upgraded or not found.connected:
            return _UNKNOWN
        if transport == "websocket" and found.upgrading:
            return 400, "This session is being taken over already.\n"
        return None

    async def _hand_on(self, scope: Scope, body: bytes, send: Send, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """One HTTP request to the library, which gets the body that was read and no other."""

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        headers = [*_passed_on(scope), (b"content-length", b"%d" % len(body)), *more]
        await self._server.handle_request({**scope, "headers": headers}, receive, send)

    async def _poll(self, scope: Scope, receive: Receive, send: Send, session: str) -> None:
        """One long poll. A client that hangs up in the midst of it has gone: what it was sent would be lost."""
        polling = asyncio.create_task(self._hand_on(scope, b"", send))
        watching = asyncio.create_task(_hung_up(receive))
        try:
            await asyncio.wait((polling, watching), return_when=asyncio.FIRST_COMPLETED)
            if not polling.done():
                found = self._sessions.find(session)
                polling.cancel()
                await asyncio.wait((polling,))
                if found is not None and not found.upgraded:
                    await self._sessions.drop(session)
            elif not polling.cancelled():
                polling.result()
        finally:
            polling.cancel()
            watching.cancel()
            await asyncio.wait((polling, watching))

    async def _post(self, scope: Scope, receive: Receive, send: Send, session: str) -> None:
        found = self._sessions.find(session)
        # One after the other: their packets belong into the order in which they came.
        async with found.session.setdefault(_LOCK, asyncio.Lock()):
            try:
                async with asyncio.timeout(self._limits.body_s):
                    body = await _body(receive, self._limits.message_bytes)
                check_payload(body)
            except Malformed as error:
                await self._sessions.drop(session)
                await answer(scope, send, 400, f"This session is closed: you sent {error}.\n")
            except (TimeoutError, ConnectionError):
                await answer(scope, send, 408, "The request did not come in time.\n")
            else:
                if self._sessions.find(session) is None:
                    await answer(scope, send, *_UNKNOWN)
                else:
                    await self._hand_on(scope, body, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send, session: str | None) -> None:
        stage = Stage.OPEN if session is None else Stage.PROBE
        abort = scope["extensions"].get(LINK)
        scope = {**scope, "headers": [*_passed_on(scope), *_AS_UPGRADE], LINK: abort}
        if session is not None:
            self._sessions.find(session).session[LINK] = abort

        async def checked() -> Message:
            nonlocal stage
            message = await receive()
            if message["type"] == "websocket.receive":
                data = message.get("text")
                try:
                    stage = next_stage(stage, message["bytes"] if data is None else data)
                except Malformed as error:
                    await send({"type": "websocket.close", "code": _MALFORMED_CODE, "reason": str(error)})
                    return {"type": "websocket.disconnect", "code": _MALFORMED_CODE}
            return message

        try:
            with contextlib.suppress(OSError):  # the client left while it was let in
                await self._server.handle_request(scope, checked, send)
        finally:
            found = None if session is None else self._sessions.find(session)
            if found is not None and not found.upgraded:
                # The library forgets it where the WebSocket breaks off early; then no poll would get anything more.
                found.upgrading = False


def _passed_on(scope: Scope) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in scope["headers"] if name in _PASSED_ON]


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive, most: int) -> bytes:
    """Raises: Malformed where it is too long, ConnectionError where the client left."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        body += message.get("body", b"")
        if len(body) > most:
            raise Malformed("too long a payload")
        if not message.get("more_body"):
            return bytes(body)
