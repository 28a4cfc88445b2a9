"""engine.io's sessions, beneath Socket.IO's clients: which are open, and which must end."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from engineio.packet import NOOP
from engineio.packet import Packet as EnginePacket

from waifu_lollms.limits import Limits
from waifu_lollms.outgoing import Outgoing
from waifu_lollms.tasks import Tasks

_log: Final = logging.getLogger(__name__)
# What aborts a session's WebSocket, where it has one: under this key in the library's session and in the scope.
LINK: Final = "waifu_lollms.link"


class Sessions:
    """All sessions of one engine.io server, of which there are at most `most`."""

    def __init__(self, engine: Any, most: int, limits: Limits) -> None:
        self._engine = engine
        self._most = most
        self._limits = limits
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._tasks = Tasks()

    def find(self, session: str) -> Any:
        """The library's socket of a session that is open; None where there is none."""
        found = self._engine.sockets.get(session)
        return None if found is None or found.closed or found.closing else found

    def are_full(self) -> bool:
        """Whether no more are taken."""
        return len(self._engine.sockets) >= self._most

    def begins(self, session: str, environ: Mapping[str, Any]) -> None:
        """The library has made it."""
        abort = environ["asgi.scope"].get(LINK)
        if abort is not None:
            self._engine.sockets[session].session[LINK] = abort
        self.expect_connect(session)

    def ends(self, session: str, _reason: str) -> None:
        """The library ends it."""
        self.connected(session)
        # By itself it would keep a place until the library's next look at all of them.
        asyncio.get_running_loop().call_soon(self._engine.sockets.pop, session, None)
        if (socket := self._engine.sockets.get(session)) is None:
            return
        socket.queue.release()
        if not socket.upgraded:
            # A poll that is under way would end with the ping's timeout only, and the client waits for it.
            socket.queue.put_nowait(EnginePacket(NOOP))

    def expect_connect(self, session: str) -> None:
        """A session without a client is worth nothing: it ends after a while."""
        self._deadlines[session] = asyncio.get_running_loop().call_later(
            self._limits.connect_s, lambda: self._tasks.start(self.drop(session, at_once=True))
        )

    def connected(self, session: str) -> None:
        """It has a client, or needs none any more."""
        if (deadline := self._deadlines.pop(session, None)) is not None:
            deadline.cancel()

    async def drop(self, session: str, *, at_once: bool = False) -> None:
        """End one from our side; `at_once` where its client does not read, so that nothing waits for it."""
        found = self.find(session)
        if found is None:
            return
        abort = found.session.get(LINK)
        await found.close(wait=False)
        if abort is not None:
            # A client leaves by itself once it reads that the session is closed.
            asyncio.get_running_loop().call_later(0 if at_once else self._limits.leave_s, abort)

    async def hold_back(self, session: str) -> None:
        """Wait while much waits for a client; one that does not read is disconnected, at once where it is too much."""
        socket = self.find(session)
        if socket is None:
            return
        queue: Outgoing = socket.queue
        if queue.waiting_bytes > self._limits.queued_bytes or not await queue.has_room(self._limits.stall_s):
            _log.info("a client was disconnected: it does not read what it asked for")
            await self.drop(session, at_once=True)

    async def cut_all(self) -> None:
        """End them all as a failure of the server does. Cancelling it is safe.

        Python's client never comes back to a server that said that a session is closed, but does to one that is gone.
        """
        for session in list(self._engine.sockets):
            if (found := self.find(session)) is not None:
                await found.close(wait=False, abort=True)

    async def close(self) -> None:
        """Wait for nobody any more."""
        for deadline in self._deadlines.values():
            deadline.cancel()
        await self._tasks.close()
