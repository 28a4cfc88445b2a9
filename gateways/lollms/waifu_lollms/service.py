"""What the events mean. Knows programs by their session ids, and no socket.

Every event gets its reply; nothing that a program sends raises here.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from waifu_client import LLMError
from waifu_lollms.binding_events import BindingEvents
from waifu_lollms.client import SocketClient
from waifu_lollms.generation import INTERNAL, GenerationQueue, Told
from waifu_lollms.interfaces import Send
from waifu_lollms.module_link import ModuleLink, OpenClient
from waifu_lollms.payloads import FORMS, REFUSED, Payload, Refused, Replies, busy, read, shown, unknown_event
from waifu_lollms.personalities.errors import PersonalityError
from waifu_lollms.personality_events import PersonalityEvents
from waifu_lollms.selection import Selection, StateStore
from waifu_lollms.selects import end_of
from waifu_lollms.tasks import Tasks

if TYPE_CHECKING:
    from waifu_lollms.personalities.library import Library

EVENTS_AT_ONCE: Final = 64  # of one program

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rooms:
    """What a service works with. `queue_length`: generations of one program that may wait for its running one."""

    open_client: OpenClient
    library: "Library"
    state_file: StateStore
    queue_length: int = 4
    clock: Callable[[], datetime] = field(default=lambda: datetime.now().astimezone())


class Service:
    """All connected programs, and what is selected for them."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._selection = Selection(rooms.state_file, rooms.library)
        self._told = Told()
        self._programs: dict[str, _Program] = {}
        self._leaving = Tasks()
        self._handlers = {
            **BindingEvents(self._selection).handlers(),
            **PersonalityEvents(self._selection, rooms.library).handlers(),
        }

    async def connected(self, sid: str, send: Send, base_url: str) -> None:
        """A program is there. Waits for nothing."""
        client = SocketClient(send, base_url, ModuleLink(self._rooms.open_client))
        queue = GenerationQueue(client, self._selection, self._rooms.queue_length, self._rooms.clock, self._told)
        before = self._programs.pop(sid, None)
        self._programs[sid] = _Program(client, queue)
        if before is not None:
            self._leaving.start(before.close())

    async def received(self, sid: str, event: str, arguments: tuple[object, ...]) -> None:
        """An event, known or not. Its reply comes through `send`, mostly later. Never raises; cancelling is safe.

        Waits where a program sends on and on and reads none of the replies.
        """
        program = self._programs.get(sid)
        if program is None:
            _log.debug("%r from a program that is not connected", shown(event))
            return
        tasks = program.client.tasks
        await tasks.room(2 * EVENTS_AT_ONCE)
        if self._programs.get(sid) is program:
            full = len(tasks) >= EVENTS_AT_ONCE
            # Tasks start in the order they are made in: a cancel finds the generation that was asked for before it.
            tasks.start(self._turn_away(program) if full else self._handle(program, event, arguments))

    async def disconnected(self, sid: str) -> None:
        """A program has left: what it was doing ends. Safe to repeat; cancelling is safe: it ends all the same."""
        program = self._programs.pop(sid, None)
        if program is not None:
            await asyncio.shield(self._leaving.start(program.close()))

    async def close(self) -> None:
        """Everybody leaves."""
        for sid in list(self._programs):
            self._leaving.start(self.disconnected(sid))
        await self._leaving.finish()
        await self._selection.close()

    async def _turn_away(self, program: "_Program") -> None:
        await program.client.answer(busy("too much at once: wait for the replies"))

    async def _handle(self, program: "_Program", event: str, arguments: tuple[object, ...]) -> None:
        form = FORMS.get(event)
        if form is None:
            await program.client.answer(unknown_event(event))
            return
        payload = read(form, arguments)
        try:
            replies = await self._replies(program, event, payload)
        except (Refused, PersonalityError, LLMError, UnicodeEncodeError) as error:
            replies = form.refuse(str(error) or INTERNAL, payload)
        except Exception:
            _log.exception("%s failed: a bug, please report it", event)
            replies = form.refuse(INTERNAL, payload)
        await program.client.answer(replies)

    async def _replies(self, program: "_Program", event: str, payload: Payload) -> Replies:
        match event:
            case "generate_text":
                waits = self._rooms.queue_length
                return () if program.queue.add(payload) else busy(f"busy: {waits} generations wait already")
            case "cancel_generation" | "cancel_text_generation":
                await program.queue.cancel()
                return ()
            case _ if event in REFUSED:
                raise Refused(REFUSED[event])
            case _:
                with program.client.selects.turn(event) as earlier:
                    await self._selection.begin()
                    await end_of(earlier)
                    return await self._handlers[event](program.client, payload)


@dataclass(frozen=True, slots=True)
class _Program:
    client: SocketClient
    queue: GenerationQueue

    async def close(self) -> None:
        self.queue.close()
        await self.client.close()
