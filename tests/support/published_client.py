"""python-socketio's own client as an old LoLLMs program uses it, against the real gateway."""

import asyncio
import gc
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import socketio
from support.socket_io import Friend
from support.waiting import WAIT_S, bounded

Payload = dict[str, Any]
TRANSPORTS: Final = ("polling", "websocket")


class Published(Friend):
    """An asynchronous program; it lets `notification` pass, as all old ones do."""

    async def reply(self, *names: str) -> Payload:
        """The next event, which must be one of these."""
        while (heard := await self.next())[0] == "notification":
            pass
        assert heard[0] in names, heard
        payload: Payload = heard[1]
        return payload

    async def send(self, event: str, *arguments: object) -> None:
        """Send an event, with the arguments as they are."""
        await self.client.emit(event, arguments or None)

    async def ask(self, event: str, *arguments: object, reply: str | None = None) -> Payload:
        """Send an event; its reply, which must be the next event, by default one of the same name."""
        await self.send(event, *arguments)
        return await self.reply(reply or event)

    async def select(self, model: str = "echo") -> None:
        """This model of `echo` is everybody's."""
        assert (await self.ask("select_binding", {"binding_name": "echo"}))["success"] is True
        assert (await self.ask("select_model", {"model_name": model}))["success"] is True

    async def generated(self) -> tuple[list[str], Payload]:
        """Read to the end of a generation: its chunks and its last event."""
        chunks: list[str] = []
        while True:
            event, payload = await self.next()
            if event == "text_generated":
                return chunks, payload
            assert event == "text_chunk", (event, payload)
            assert payload["type"] == 0
            chunks.append(payload["chunk"])

    async def generate(self, prompt: str, personality: object = -1, **fields: object) -> str:
        """Generate; the text."""
        await self.send("generate_text", {"prompt": prompt, "personality": personality, **fields})
        chunks, done = await self.generated()
        assert set(done) == {"text", "request_id"}, done
        assert "".join(chunks) == done["text"]
        return str(done["text"])


@asynccontextmanager
async def published(address: str, transport: str, *, reconnection: bool = False) -> AsyncIterator[Published]:
    """Connected while the block runs, by this transport alone."""
    with warnings.catch_warnings():
        if reconnection:
            # The library leaves the connection that it lost to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
        async with _connected(address, transport, reconnection=reconnection) as it:
            yield it
        gc.collect()


@asynccontextmanager
async def _connected(address: str, transport: str, *, reconnection: bool) -> AsyncIterator[Published]:
    async with aiohttp.ClientSession() as http:
        client = socketio.AsyncClient(
            reconnection=reconnection, reconnection_delay=0.05, reconnection_delay_max=0.2, http_session=http
        )
        it = Published(client)
        async with bounded():
            await client.connect(address, transports=[transport])
        try:
            yield it
        finally:
            async with bounded():
                await client.disconnect()


class Blocking:
    """The blocking client in threads of its own, in the form of the published examples: all that it does, it does in
    the handler of its own connection, where it waits for each answer.
    """

    def __init__(self, address: str, transport: str, prompts: list[str]) -> None:
        self.texts: list[str] = []
        self.chunks: list[str] = []
        self._prompts = prompts
        self._ready = threading.Event()
        self._client = socketio.Client(reconnection=False)
        for handler in (self.connect, self.select_binding, self.text_chunk, self.text_generated):
            self._client.on(handler.__name__, handler)
        self._client.connect(address, transports=[transport], wait_timeout=WAIT_S)

    def connect(self) -> None:
        self._say("select_binding", {"binding_name": "echo"})
        for prompt in self._prompts:
            self._say("generate_text", {"prompt": prompt, "personality": -1, "n_predicts": 1024})
        self._client.disconnect()

    def _say(self, event: str, payload: Payload) -> None:
        self._ready.clear()
        self._client.emit(event, payload)
        if not self._ready.wait(WAIT_S):
            self._client.disconnect()
            raise AssertionError(f"{event} was not answered")

    def select_binding(self, data: Payload) -> None:
        assert data["success"], data
        self._ready.set()

    def text_chunk(self, data: Payload) -> None:
        self.chunks.append(data["chunk"])

    def text_generated(self, data: Payload) -> None:
        self.texts.append(data["text"])
        self._ready.set()

    def wait(self) -> None:
        """It has left."""
        self._client.wait()


async def blocking(address: str, transport: str, prompts: list[str]) -> Blocking:
    """One such program, from its first to its last word."""

    def live() -> Blocking:
        program = Blocking(address, transport, prompts)
        program.wait()
        return program

    run: Callable[[], Blocking] = live
    return await asyncio.to_thread(run)
