"""The LoLLMs gateway's service without Socket.IO: real module, real files, programs that are lists."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from support.running_module import RunningModule, running_module
from support.waiting import bounded
from waifu_lollms.personalities.library import Library
from waifu_lollms.service import Rooms, Service
from waifu_lollms.state import StateFile

from waifu_client import Client
from waifu_client.results import Loaded

Payload = dict[str, Any]
BASE_URL: Final = "http://localhost:9600"
NOW: Final = datetime(2026, 11, 22, 12, 34, 56)

LOLLMS: Final = """
name: lollms
author: the tests
version: 1.0
personality_description: helps
personality_conditioning: "!@> Instruction: help.\\n"
welcome_message: Welcome!
include_welcome_message_in_discussion: false
user_message_prefix: "!@> Human: "
link_text: "\\n"
ai_message_prefix: "!@> lollms:"
anti_prompts: ["!@>Human"]
"""
PIRATE: Final = """
name: Pirate "Ann"
personality_description: arr
personality_conditioning: "Talk like a pirate.\\n"
include_welcome_message_in_discussion: false
"""


class Program:
    """One connected program: what it was sent, in this order."""

    def __init__(self, service: Service, sid: str) -> None:
        self.service = service
        self.sid = sid
        self.history: list[tuple[str, Payload]] = []
        self.reads = asyncio.Event()  # cleared: it reads nothing, so that sending waits
        self.reads.set()
        self.stuck = asyncio.Event()  # something waits for it to read
        self._events: asyncio.Queue[tuple[str, Payload]] = asyncio.Queue()

    async def __call__(self, event: str, payload: Mapping[str, object]) -> None:
        copy = json.loads(json.dumps(payload))
        if not self.reads.is_set():
            self.stuck.set()
            await self.reads.wait()
        self.history.append((event, copy))
        self._events.put_nowait((event, copy))

    async def send(self, event: str, *arguments: object) -> None:
        """Send an event, and wait for no reply."""
        await self.service.received(self.sid, event, arguments)

    async def next(self) -> tuple[str, Payload]:
        """The next event."""
        async with bounded():
            return await self._events.get()

    async def reply(self, name: str) -> Payload:
        """The next event, which must be this one."""
        event, payload = await self.next()
        assert event == name, (event, payload)
        return payload

    async def ask(self, event: str, *arguments: object, reply: str | None = None) -> Payload:
        """Send an event; its reply, which must be the next event, by default one of the same name."""
        await self.send(event, *arguments)
        return await self.reply(reply or event)

    async def after(self, passed: str, name: str) -> Payload:
        """The next event that is not `passed`, which must be this one."""
        while (heard := await self.next())[0] == passed:
            pass
        assert heard[0] == name, heard
        return heard[1]

    async def select(self, binding: str) -> Payload:
        """Select a binding; the reply."""
        await self.send("select_binding", {"binding_name": binding})
        return await self.after("notification", "select_binding")

    async def generated(self) -> tuple[str, Payload]:
        """Read to the end of a generation that succeeds: its chunks joined, and its last event."""
        chunks: list[str] = []
        while True:
            event, payload = await self.next()
            if event == "text_generated":
                return "".join(chunks), payload
            assert event == "text_chunk", (event, payload)
            assert payload["type"] == 0
            chunks.append(payload["chunk"])

    async def generate(self, prompt: str, personality: object = -1, **fields: object) -> str:
        """Generate; the text."""
        await self.send("generate_text", {"prompt": prompt, "personality": personality, "n_predicts": 100, **fields})
        chunks, done = await self.generated()
        assert "error" not in done, done
        assert chunks == done["text"]
        return chunks

    async def leave(self) -> None:
        """Disconnect."""
        async with bounded():
            await self.service.disconnected(self.sid)

    @property
    def nothing_more(self) -> bool:
        """All that it was sent has been looked at."""
        return self._events.empty()


class FieldsClient(Client):
    """A client of the module whose loads carry what the test wants a provider to be given."""

    fields: Mapping[str, Mapping[str, object]] = {}

    async def load(self, provider: str, /, **asked: Any) -> Loaded:
        return await super().load(provider, **{**self.fields.get(provider, {}), **asked})


@dataclass
class House:
    """A service over a module; `fields` are what loads carry, by provider; `clients` all connections so far."""

    module: RunningModule
    state: Path
    personalities: Path
    fields: dict[str, dict[str, object]]
    clients: list[Client] = field(default_factory=list)
    queue_length: int = 4
    programs: int = 0

    def __post_init__(self) -> None:
        self.url = self.module.url
        self.service = self.new_service()

    def new_service(self) -> Service:
        library = Library([self.personalities], None)
        return Service(Rooms(self.open_client, library, StateFile(self.state), self.queue_length, lambda: NOW))

    async def open_client(self) -> Client:
        client = await FieldsClient.open(self.url)
        client.fields = self.fields
        self.clients.append(client)
        return client

    async def program(self) -> Program:
        """One more that connects."""
        self.programs += 1
        program = Program(self.service, f"sid-{self.programs}")
        async with bounded():
            await self.service.connected(program.sid, program, BASE_URL)
        return program

    def abilities(self, provider: str, abilities: list[str]) -> None:
        """From now on the service believes that the provider has these."""
        details = self.service._selection.details
        details[provider] = msgspec.structs.replace(details[provider], abilities=abilities)

    async def counts(self, provider: str) -> dict[str, int]:
        """How many generations of a provider ended, by code."""
        client = await FieldsClient.open(self.url)
        try:
            counters = (await client.stats()).counters
            return counters[provider].requests if provider in counters else {}
        finally:
            await client.aclose()


def write_personality(root: Path, key: str, config: str) -> Path:
    """A personality's folder."""
    folder = root / key
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config, "utf-8")
    return folder


@asynccontextmanager
async def lollms_house(home: Path, *, state: str | None = None, queue_length: int = 4) -> AsyncIterator[House]:
    """A module, and a service over it whose files lie beside its home; `state` is lollms.yaml."""
    data = home.parent / "data"
    data.mkdir()
    file = data / "lollms.yaml"
    if state is not None:
        file.write_text(state, "utf-8")
    write_personality(data / "personalities", "english/generic/lollms", LOLLMS)
    write_personality(data / "personalities", "english/fun/pirate", PIRATE)
    async with running_module(home) as module:
        house = House(module, file, data / "personalities", {}, queue_length=queue_length)
        try:
            yield house
        finally:
            async with bounded():
                await house.service.close()
