"""Drives a Provider in-process under the runtime's own rules, for the tests of whoever writes one."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from waifu_worker.framing import decode_from_worker
from waifu_worker.provider import Provider
from waifu_worker.requests import Requests
from waifu_worker.wire import (
    Cancel,
    ChatMessage,
    Chunk,
    Done,
    Failed,
    FromWorker,
    Generate,
    Load,
    ModelInfo,
    Models,
    OptionValue,
    Params,
    Progress,
    ToWorker,
    Unload,
)


class RequestFailed(Exception):
    """A request ended with `failed`; that message is its attribute."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(f"{failed.error}: {failed.message}")
        self.failed = failed


@dataclass(frozen=True, slots=True)
class Answer:
    """A generation that ended well: its chunks, their concatenation, and its `done`."""

    chunks: tuple[str, ...]
    done: Done

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.chunks)


@dataclass(slots=True)
class _Lines:
    """An outlet that decodes each line and hands it to its request. A test may set `congested` by itself."""

    congested: bool = False
    inboxes: dict[int, asyncio.Queue[FromWorker]] = field(default_factory=dict)
    roomy: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, line: bytes, *, more: bool = False) -> None:
        message = decode_from_worker(line)
        assert isinstance(message, Chunk | Done | Failed | Progress)
        self.inboxes[message.id].put_nowait(message)

    async def room(self) -> None:
        await self.roomy.wait()


@dataclass(slots=True)
class Running:
    """A request that was sent: its messages in order, the last one is `Done` or `Failed`."""

    id: int
    _driver: "Driver"
    _inbox: "asyncio.Queue[FromWorker]"

    async def next(self) -> FromWorker:
        """The next message. Cancelling it is safe."""
        return await self._inbox.get()

    async def messages(self) -> AsyncIterator[FromWorker]:
        """All messages to the end."""
        while True:
            message = await self.next()
            yield message
            if isinstance(message, Done | Failed):
                return

    def cancel(self) -> None:
        """Cancel it, as the core does; it then ends with `Failed`."""
        self._driver.send(Cancel(id=self.id))

    async def answer(self) -> Answer:
        """Wait for its end. Raises: RequestFailed."""
        chunks: list[str] = []
        async for message in self.messages():
            match message:
                case Chunk():
                    chunks.extend(message.texts)
                case Progress():
                    self._driver.progress.append(message)
                case Done():
                    return Answer(tuple(chunks), message)
                case Failed():
                    raise RequestFailed(message)
        raise AssertionError("messages() ends with Done or Failed")


class Driver:
    """A worker without its process: `async with Driver(Provider) as driver: await driver.load(...)`.

    `progress` collects what the loads report.
    """

    def __init__(self, provider: type[Provider]) -> None:
        self.lines = _Lines()
        self.requests = Requests(provider, self.lines)
        self.progress: list[Progress] = []
        self._ids = itertools.count(1)

    async def __aenter__(self) -> "Driver":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.requests.close()

    def send(self, message: ToWorker) -> None:
        """Hand one message of the wire to the worker."""
        self.requests.handle(message)

    def start(self, message: Load | Models | Generate) -> Running:
        """Send a request; its id is replaced by one of the driver's own."""
        request_id = next(self._ids)
        inbox: asyncio.Queue[FromWorker] = asyncio.Queue()
        self.lines.inboxes[request_id] = inbox
        self.send(msgspec.structs.replace(message, id=request_id))
        return Running(request_id, self, inbox)

    async def load(
        self,
        *,
        api_key: str | None = None,
        options: Mapping[str, OptionValue] | None = None,
        preload_model_id: str | None = None,
        ctx: int = 1,
    ) -> Done:
        """Load the context. Raises: RequestFailed."""
        message = Load(id=0, ctx=ctx, api_key=api_key, options=dict(options or {}), preload_model_id=preload_model_id)
        return (await self.start(message).answer()).done

    async def models(self, *, ctx: int = 1) -> tuple[ModelInfo, ...]:
        """Read the model list again. Raises: RequestFailed."""
        return (await self.start(Models(id=0, ctx=ctx)).answer()).done.models or ()

    def generation(
        self,
        said: str | Sequence[ChatMessage],
        params: Params,
        *,
        stream: bool = True,
        time_left_ms: int | None = None,
        ctx: int = 1,
    ) -> Running:
        """Begin to generate from messages, or from a raw text prompt where `said` is a string."""
        prompt, messages = (said, ()) if isinstance(said, str) else (None, tuple(said))
        return self.start(
            Generate(
                id=0, ctx=ctx, params=params, messages=messages, prompt=prompt, stream=stream, time_left_ms=time_left_ms
            )
        )

    async def generate(
        self, said: str | Sequence[ChatMessage], params: Params, *, stream: bool = True, ctx: int = 1
    ) -> Answer:
        """Generate to the end. Raises: RequestFailed."""
        return await self.generation(said, params, stream=stream, ctx=ctx).answer()

    def unload(self, ctx: int = 1) -> None:
        """Forget the context."""
        self.send(Unload(ctx=ctx))
