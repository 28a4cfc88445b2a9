"""A module that does what a test's script says, over a real WebSocket, and refuses what the protocol forbids."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
from support.waiting import bounded
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from waifu_client.protocol import (
    MAX_ID_LENGTH,
    AnyReply,
    AnyRequest,
    ErrorCode,
    Generate,
    GenerateAck,
    GenerateDone,
    GenerateStreamChunk,
    GenerateStreamDone,
    GetModels,
    GetModelsDone,
    GetProviders,
    GetProvidersDone,
    Interrupt,
    InterruptAck,
    Load,
    LoadAck,
    LoadDone,
    ProviderDetails,
    RequestId,
    encode_reply,
)

Script: TypeAlias = Callable[["Peer"], Awaitable[None]]
R = TypeVar("R")

_LOAD_FIELDS: Final = set(Load.__struct_fields__) - {"fields"} | {"type"}


class Peer:
    """The module's end of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self._ids: set[RequestId] = set()

    async def take(self, kind: type[R]) -> R:
        """The next request, which must be of this kind and just as the protocol wants it."""
        request = await self.take_any()
        assert isinstance(request, kind), f"expected {kind.__name__}, got {request}"
        return request

    async def take_any(self) -> AnyRequest:
        """The next request, checked."""
        async with bounded():
            frame = await self.socket.recv()
        assert isinstance(frame, str), "a text frame is what clients should send"
        request = _strict(json.loads(frame))
        name = request.unique_request_id
        assert isinstance(name, str) and 0 < len(name) <= MAX_ID_LENGTH
        assert name not in self._ids, f"the id {name} is used twice"
        self._ids.add(name)
        return request

    async def send(self, *replies: AnyReply) -> None:
        """Replies, in order."""
        for reply in replies:
            await self.socket.send(encode_reply(reply), text=True)

    async def silence(self) -> None:
        """Nothing but the end of the connection may come."""
        async with bounded():
            try:
                frame = await self.socket.recv()
            except ConnectionClosed:
                return
        raise AssertionError(f"nothing more was expected, and this came: {frame!r}")

    async def accept_load(self) -> Load:
        """Answer a load with success."""
        load = await self.take(Load)
        name = load.unique_request_id
        await self.send(
            LoadAck(unique_request_id=name, provider=load.provider),
            LoadDone(unique_request_id=name, provider=load.provider, is_error=False, error=ErrorCode.SUCCESS),
        )
        return load

    async def accept_models(self, *models: str) -> GetModels:
        """Answer a question for models."""
        ask = await self.take(GetModels)
        await self.send(
            GetModelsDone(
                unique_request_id=ask.unique_request_id,
                is_error=False,
                error=ErrorCode.SUCCESS,
                models=list(models),
                providers=list(models),
            )
        )
        return ask

    async def accept_providers(self, **default_models: str | None) -> GetProviders:
        """Answer a question for providers, with their default models."""
        ask = await self.take(GetProviders)
        details = {
            name: ProviderDetails(
                title=name,
                description="",
                homepage="",
                category="local",
                installed=True,
                running=True,
                needs_api_key=False,
                has_api_key=False,
                abilities=["chat"],
                options={},
                default_model=default,
            )
            for name, default in default_models.items()
        }
        await self.send(
            GetProvidersDone(unique_request_id=ask.unique_request_id, providers=sorted(default_models), details=details)
        )
        return ask

    async def accept_generate(self, *chunks: str) -> Generate:
        """Acknowledge a generation, and where it streams send these chunks."""
        generate = await self.take(Generate)
        name = generate.unique_request_id
        await self.send(GenerateAck(unique_request_id=name))
        await self.send(*(GenerateStreamChunk(unique_request_id=name, chunk=chunk) for chunk in chunks))
        return generate

    async def accept_interrupt(self) -> Interrupt:
        """Acknowledge an interrupt."""
        interrupt = await self.take(Interrupt)
        target = interrupt.target_request_id
        stopped = [] if target is None else [target]
        await self.send(InterruptAck(unique_request_id=interrupt.unique_request_id, interrupted=stopped))
        return interrupt


class ScriptedModule:
    """The address of a running script."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"ws://127.0.0.1:{port}"
        self.failures: list[Exception] = []
        self._over = asyncio.Event()

    async def over(self) -> None:
        """The script of one connection has run to its end."""
        async with bounded():
            await self._over.wait()

    async def run(self, script: Script, socket: ServerConnection) -> None:
        """One connection's script; a connection that ends under it has failed it."""
        try:
            await script(Peer(socket))
        except Exception as error:
            self.failures.append(error)
        self._over.set()


@asynccontextmanager
async def scripted(script: Script, port: int = 0, **options: Any) -> AsyncIterator[ScriptedModule]:
    """Run the script once for every connection; what it finds wrong fails the test at the end."""

    async def handle(socket: ServerConnection) -> None:
        await module.run(script, socket)

    async with serve(handle, "127.0.0.1", port, compression=None, max_size=2**26, **options) as server:
        module = ScriptedModule(next(iter(server.sockets)).getsockname()[1])
        yield module
        server.close()
        async with bounded():
            await server.wait_closed()
    if module.failures:
        raise module.failures[0]


def done(request: Generate, **fields: Any) -> GenerateStreamDone:
    """The terminal message of a stream that ended well."""
    return GenerateStreamDone(
        unique_request_id=request.unique_request_id, is_error=False, error=ErrorCode.SUCCESS, **fields
    )


def answer(request: Generate, response: str, **fields: Any) -> GenerateDone:
    """The terminal message of a generation that ended well."""
    return GenerateDone(
        unique_request_id=request.unique_request_id,
        is_error=False,
        error=ErrorCode.SUCCESS,
        response=response,
        **fields,
    )


def _strict(fields: dict[str, Any]) -> AnyRequest:
    if fields.get("type") == "load":
        own = {name: value for name, value in fields.items() if name in _LOAD_FIELDS}
        fields = {**own, "fields": {name: value for name, value in fields.items() if name not in _LOAD_FIELDS}}
    request: AnyRequest = msgspec.convert(fields, AnyRequest)
    foreign = fields.keys() - set(request.__struct_fields__) - {"type"}
    assert not foreign, f"no such fields in {fields['type']}: {foreign}"
    if isinstance(request, Generate):
        assert request.params.model_id, "a model id is required"
        assert set(fields["params"]) <= set(request.params.__struct_fields__)
    return request
