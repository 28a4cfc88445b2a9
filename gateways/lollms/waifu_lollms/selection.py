"""What is selected for everybody: binding, model, the mounted personalities and the active one.

Owns it in memory and writes it to `lollms.yaml` after each change. Changes are made in one step of the event loop, so
that everybody sees either the old or the new; the order in which they are saved is the order in which they were made.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from waifu_lollms.payloads import Refused
from waifu_lollms.personalities.errors import PersonalityError
from waifu_lollms.race import Race
from waifu_lollms.state.model import State, StateError
from waifu_lollms.tasks import Tasks

if TYPE_CHECKING:
    from waifu_client.protocol import ProviderDetails
    from waifu_client.results import Models, Providers
    from waifu_lollms.personalities.library import Library
    from waifu_lollms.personalities.model import Personality

NOT_VALID: Final = "Personality ID not valid"
NO_BINDING: Final = "Please select a binding first"
SUPERSEDED: Final = "superseded"

_log: Final = logging.getLogger(__name__)


class StateStore(Protocol):
    """Where the selection is kept. Both block, and raise StateError."""

    def read(self) -> State:
        """What was saved."""

    def save(self, **changes: object) -> State:
        """Change these fields and no others; what is saved then."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A binding, and its model where one is selected: without one the binding's default answers."""

    binding: str | None = None
    model: str | None = None

    def chosen_binding(self) -> str:
        """The binding. Raises: Refused."""
        if self.binding is None:
            raise Refused(NO_BINDING)
        return self.binding


@dataclass(frozen=True, slots=True)
class Mounted:
    """A mounted personality as the file has it, and its key once it was found."""

    path: str
    key: str | None = None

    def name(self) -> str:
        """What a broken one is called."""
        return self.path.replace("\\", "/").rstrip("/").rpartition("/")[2]


class Selection:
    """What is selected, for everybody; what is known of the bindings besides."""

    def __init__(self, store: StateStore, library: "Library") -> None:
        self.state = State()
        self.choice = Choice()
        self.mounted: tuple[Mounted, ...] = ()
        self.active = 0
        self.binding_race = Race()
        self.model_race = Race()
        self.details: dict[str, ProviderDetails] = {}
        self.models: dict[str, Models] = {}
        self._store = store
        self._library = library
        self._last_models: dict[str, str] = {}
        self._tasks = Tasks()
        self._saving = asyncio.Lock()
        self._beginning: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Read what was saved; at once where that is done. Cancelling is safe."""
        if self._beginning is None:
            self._beginning = self._tasks.start(self._read())
        await asyncio.shield(self._beginning)

    async def close(self) -> None:
        """Wait until what was selected is saved. Cancelling is safe."""
        await self._tasks.finish()

    def learn(self, providers: "Providers") -> None:
        """What the module says of its providers."""
        self.details = dict(providers.details)

    def is_chat(self, binding: str) -> bool:
        """Whether it takes a discussion as roles, not as one text."""
        details = self.details.get(binding)
        return details is None or "chat" in details.abilities

    def model_for(self, binding: str, models: "Models") -> str | None:
        """The model last used with it, else the manifest's default, else the first of the list."""
        if binding in self._last_models:
            return self._last_models[binding]
        details = self.details.get(binding)
        default = details.default_model if details else None
        if default is not None and (not models.ids or default in models.ids):
            return default
        return models.ids[0] if models.ids else None

    async def choose(self, choice: Choice) -> str | None:
        """From now on this is selected; a sentence where it could not be saved."""
        self.choice = choice
        if choice.binding is not None and choice.model is not None:
            self._last_models[choice.binding] = choice.model
        return await self._save(binding_name=choice.binding, model_name=choice.model)

    async def mount(self, path: str) -> tuple[int, "Personality", str | None]:
        """Its id, the same for the same folder; and a sentence where it could not be saved.

        Raises: PersonalityError.
        """
        personality = await asyncio.to_thread(self._library.find, path)
        for number, mounted in enumerate(self.mounted):
            if personality.key in (mounted.key, mounted.path):
                return number, personality, None
        self.mounted += (Mounted(personality.key, personality.key),)
        number = len(self.mounted) - 1
        return number, personality, await self._save(personalities=tuple(each.path for each in self.mounted))

    async def activate(self, number: int) -> tuple["Personality", str | None]:
        """It is the active one now; and a sentence where it could not be saved. Raises: Refused, PersonalityError."""
        personality = await self.personality(number)
        self.active = number
        return personality, await self._save(active_personality_id=number)

    async def personality(self, number: int) -> "Personality":
        """A mounted one, as its file is now. Raises: Refused, PersonalityError."""
        if not 0 <= number < len(self.mounted):
            raise Refused(NOT_VALID)
        return await asyncio.to_thread(self._library.find, self.mounted[number].path)

    async def names(self) -> list[str]:
        """Those of the mounted ones, in the order of their ids; a broken one has that of its folder."""
        mounted = self.mounted
        found = await asyncio.to_thread(self._find_all, [each.path for each in mounted])
        return [one.name if one else each.name() for one, each in zip(found, mounted, strict=True)]

    async def number_of(self, name: str) -> int:
        """The id of the mounted one that has this name or this path. Raises: Refused."""
        mounted = self.mounted
        for number, (shown, each) in enumerate(zip(await self.names(), mounted, strict=True)):
            if name in (shown, each.key, each.path):
                return number
        raise Refused(NOT_VALID)

    async def _read(self) -> None:
        try:
            self.state = await asyncio.to_thread(self._store.read)
        except StateError as error:
            _log.error("what was selected cannot be read, so nothing is, and nothing will be saved: %s", error)
        except Exception:
            _log.exception("what was selected cannot be read: a bug, please report it")
        self.choice = Choice(self.state.binding_name or None, self.state.model_name or None)
        if self.choice.binding and self.choice.model:
            self._last_models[self.choice.binding] = self.choice.model
        paths = list(self.state.personalities)
        found = await asyncio.to_thread(self._find_all, paths)
        self.mounted = tuple(Mounted(path, one.key if one else None) for path, one in zip(paths, found, strict=True))
        self.active = self.state.active_personality_id

    def _find_all(self, paths: Iterable[str]) -> list["Personality | None"]:
        return [self._find(path) for path in paths]

    def _find(self, path: str) -> "Personality | None":
        try:
            return self._library.find(path)
        except PersonalityError:
            return None  # whoever uses it is told why

    async def _save(self, **changes: object) -> str | None:
        # Shielded: a change that was made is saved, also where whoever asked for it has left.
        return await asyncio.shield(self._tasks.start(self._save_in_turn(changes)))

    async def _save_in_turn(self, changes: Mapping[str, object]) -> str | None:
        async with self._saving:
            try:
                self.state = await asyncio.to_thread(self._store.save, **changes)
            except StateError as error:
                _log.error("selected, but not saved: %s", error)
                return f"it is selected, but could not be saved: {error}"
            return None
