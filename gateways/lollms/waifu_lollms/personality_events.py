"""Personalities: which there are, which are mounted, and which one is active for everybody."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from waifu_lollms import listings
from waifu_lollms.client import SocketClient
from waifu_lollms.payloads import Payload, Refused, Replies, integer, name_of
from waifu_lollms.selection import NOT_VALID, Selection

if TYPE_CHECKING:
    from waifu_lollms.personalities.library import Library

Handler: TypeAlias = Callable[[SocketClient, Payload], Awaitable[Replies]]


class PersonalityEvents:
    """The handlers of these events. They raise Refused and PersonalityError; cancelling one is safe."""

    def __init__(self, selection: Selection, library: "Library") -> None:
        self._selection = selection
        self._library = library

    def handlers(self) -> Mapping[str, Handler]:
        """By event."""
        return {
            "list_available_personalities": self.list_all,
            "list_available_personalities_languages": self.list_languages,
            "list_available_personalities_categories": self.list_categories,
            "list_available_personalities_names": self.list_names,
            "add_personality": self.add,
            "activate_personality": self.activate,
            "list_active_personalities": self.list_mounted,
        }

    async def list_all(self, client: SocketClient, _: Payload) -> Replies:
        """All there are, and the broken ones."""
        survey = await asyncio.to_thread(self._library.survey)
        reply: dict[str, object] = {"success": True, "personalities": listings.personalities(survey, client.base_url)}
        reply["errors"] = [{"path": broken.path, "error": broken.message} for broken in survey.errors]
        return (("personalities_list", reply),)

    async def list_languages(self, _: SocketClient, __: Payload) -> Replies:
        """The languages."""
        survey = await asyncio.to_thread(self._library.survey)
        return _list("available_personalities_languages", sorted(survey.languages))

    async def list_categories(self, _: SocketClient, payload: Payload) -> Replies:
        """The categories of a language."""
        language = name_of(payload, "language")
        survey = await asyncio.to_thread(self._library.survey)
        return _list("available_personalities_categories", listings.categories(survey, language))

    async def list_names(self, _: SocketClient, payload: Payload) -> Replies:
        """The folders of a category."""
        language, category = name_of(payload, "language"), name_of(payload, "category")
        survey = await asyncio.to_thread(self._library.survey)
        return _list("list_available_personalities_names", listings.names(survey, language, category))

    async def add(self, _: SocketClient, payload: Payload) -> Replies:
        """Mount one."""
        number, personality, warning = await self._selection.mount(name_of(payload, "path"))
        reply = {"name": personality.name, "id": number, "welcome_message": personality.welcome_message}
        return (("personality_added", _done(warning, reply)),)

    async def activate(self, _: SocketClient, payload: Payload) -> Replies:
        """Make a mounted one the one that answers where a generation names none."""
        number = await self._asked_for(payload)
        personality, warning = await self._selection.activate(number)
        return (("activate_personality", _done(warning, {"name": personality.name, "id": number})),)

    async def list_mounted(self, _: SocketClient, __: Payload) -> Replies:
        """The names of the mounted ones."""
        names = await self._selection.names()
        reply = {"success": True, "personalities": names, "active_personality_id": self._selection.active}
        return (("active_personalities_list", reply),)

    async def _asked_for(self, payload: Payload) -> int:
        if payload.get("id") is None and payload.get("personality_name") is not None:
            return await self._selection.number_of(name_of(payload, "personality_name"))
        try:
            number = integer(payload, "id")
        except Refused:
            number = None
        if number is None:
            raise Refused(NOT_VALID)
        return number


def _list(name: str, entries: list[str]) -> Replies:
    return ((f"{name}_list", {"success": True, name: entries}),)


def _done(warning: str | None, reply: Mapping[str, object]) -> Payload:
    return {"success": True, **reply, **({} if warning is None else {"warning": warning})}
