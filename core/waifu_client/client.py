"""The asyncio client: every request of the protocol as a method, every failure as an exception."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self, Unpack

import msgspec

from waifu_client.connection import DEFAULT_URL, Connection
from waifu_client.errors import InvalidModel
from waifu_client.exchange import ANSWER_S, Exchange, R, patience
from waifu_client.prompts import Messages, Params, as_messages, as_params
from waifu_client.protocol import (
    AnyRequest,
    Close,
    CloseAck,
    Generate,
    GenerateDone,
    GenerateParams,
    GetModels,
    GetModelsDone,
    GetProviders,
    GetProvidersDone,
    GetStats,
    GetStatsDone,
    Interrupt,
    InterruptAck,
    Load,
    LoadDone,
    LoadProgress,
    RequestId,
    Unload,
    UnloadDone,
)
from waifu_client.results import Answer, Loaded, Models, Providers
from waifu_client.stream import Stream

if TYPE_CHECKING:
    from ssl import SSLContext

UNLOAD_S: Final = 30.0  # a worker that ignores everything is killed long before


class Client:
    """One connection to a module; any number of requests at once.

    Every call may be cancelled at any time: what it started is interrupted at the provider too.
    Every call raises an LLMError of the answer's code, ConnectionLost where the connection ends under it, and
    UnicodeEncodeError for a text that is no valid Unicode.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._default_models: dict[str | None, str] = {}
        self._last_load: tuple[int, str | None] = (0, None)  # of the loads that succeeded, the one asked for last

    @classmethod
    async def open(cls, url: str | None = None, *, token: str | None = None, tls: "SSLContext | None" = None) -> Self:
        """Connect without a context manager; `aclose()` is then yours to call. See `connect`."""
        return cls(await Connection.open(url or DEFAULT_URL, token, tls))

    async def aclose(self) -> None:
        """Close the connection, which ends all that it was running. Safe to repeat."""
        await self._connection.aclose()

    async def load(
        self,
        provider: str,
        /,
        *,
        api_key: str | None = None,
        preload_model_id: str | None = None,
        timeout_ms: int | None = None,
        on_progress: Callable[[LoadProgress], object] | None = None,
        **fields: object,
    ) -> Loaded:
        """Load a provider; its environment is built if need be, which takes its time.

        `fields`: what this provider takes besides, such as `base_url`. `on_progress` is called for each step.
        """
        request = Load(
            unique_request_id=self._connection.new_id(),
            provider=provider,
            api_key=api_key,
            preload_model_id=preload_model_id,
            timeout_ms=timeout_ms,
            progress=on_progress is not None,
            fields=fields,
        )
        exchange = self._connection.start(request)
        try:
            await exchange.next()
            while not isinstance(reply := await exchange.next(patience(timeout_ms)), LoadDone):
                if isinstance(reply, LoadProgress) and on_progress is not None:
                    on_progress(reply)
        finally:
            exchange.leave()
            self._default_models.clear()
        self._last_load = max(self._last_load, (int(request.unique_request_id), provider))
        return Loaded.of(reply)

    async def unload(self, provider: str) -> None:
        """Stop the provider's workers; what they generate ends with Interrupted. They start again when needed."""
        await self._ask(Unload(unique_request_id=self._connection.new_id(), provider=provider), UnloadDone, UNLOAD_S)

    async def providers(self) -> Providers:
        """The providers there are, installed or not."""
        request = GetProviders(unique_request_id=self._connection.new_id())
        return Providers.of(await self._ask(request, GetProvidersDone))

    async def models(self, provider: str | None = None) -> Models:
        """The models of a loaded provider, by default the one loaded last."""
        request = GetModels(unique_request_id=self._connection.new_id(), provider=provider)
        return Models.of(await self._ask(request, GetModelsDone))

    async def generate(
        self,
        messages: Messages = (),
        *,
        prompt: str | None = None,
        model_id: str | None = None,
        provider: str | None = None,
        **params: Unpack[Params],
    ) -> Answer:
        """A whole answer to `messages` (a text counts as one user message), or to the raw text `prompt`.

        Without `provider` the one loaded last answers. Without `model_id` the provider's default model does, or the
        first of its list where the default is not in it; that is asked for once and remembered until the next load.
        """
        request = self._request(messages, prompt, provider, as_params(model_id, params))
        exchange = await self._begin(request)
        try:
            return Answer.of(await exchange.end(GenerateDone, patience(request.params.timeout_ms)))
        finally:
            exchange.leave()

    def stream(
        self,
        messages: Messages = (),
        *,
        prompt: str | None = None,
        model_id: str | None = None,
        provider: str | None = None,
        **params: Unpack[Params],
    ) -> Stream:
        """The answer of `generate`, piece by piece: `async for piece in llm.stream("Hello"): ...`."""
        request = self._request(messages, prompt, provider, as_params(model_id, params))
        return Stream(self._connection, msgspec.structs.replace(request, stream=True), self._begin)

    async def interrupt(self, target: RequestId | None = None, scope: str | None = None) -> list[RequestId]:
        """Stop this connection's generations, one of them (`Stream.request_id`), or everybody's (scope "all").

        Returns the ids of the stopped ones; whoever waits for one gets Interrupted.
        """
        new_id = self._connection.new_id()
        request = Interrupt(unique_request_id=new_id, target_request_id=target, scope=scope)
        return (await self._ask(request, InterruptAck)).interrupted

    async def stats(self) -> GetStatsDone:
        """What runs and how it fares."""
        return await self._ask(GetStats(unique_request_id=self._connection.new_id()), GetStatsDone)

    async def close_module(self) -> None:
        """Stop the module (the protocol's `close`); returns when it has said that it will."""
        await self._ask(Close(unique_request_id=self._connection.new_id()), CloseAck)

    async def _ask(self, request: AnyRequest, kind: type[R], seconds: float = ANSWER_S) -> R:
        exchange = self._connection.start(request)
        try:
            return await exchange.end(kind, seconds)
        finally:
            exchange.leave()

    def _request(
        self, messages: Messages, prompt: str | None, provider: str | None, params: GenerateParams
    ) -> Generate:
        return Generate(
            unique_request_id=self._connection.new_id(),
            messages=as_messages(messages),
            prompt=prompt,
            provider=provider,
            params=params,
        )

    async def _begin(self, request: Generate) -> Exchange:
        """Send a generation; done when the module has acknowledged it."""
        if not request.params.model_id:
            params = msgspec.structs.replace(request.params, model_id=await self._default_model(request.provider))
            request = msgspec.structs.replace(request, params=params)
        exchange = self._connection.start(request)
        try:
            await exchange.next()
        except BaseException:
            exchange.leave()
            raise
        return exchange

    async def _default_model(self, provider: str | None) -> str:
        chosen = self._default_models.get(provider)
        if chosen is None:
            models = await self.models(provider)
            name = provider or self._last_load[1]
            details = (await self.providers()).details.get(name) if name else None
            default = details.default_model if details else None
            chosen = default if not models.ids or default in models.ids else models.ids[0]
            if chosen is None:
                raise InvalidModel(f"no model is known: pass `model_id` ({models.warning or 'the list is empty'})")
            self._default_models[provider] = chosen
        return chosen


@asynccontextmanager
async def connect(
    url: str | None = None, *, token: str | None = None, tls: "SSLContext | None" = None
) -> AsyncIterator[Client]:
    """A connection to a module, by default the one on this machine; leaving the block ends all that it was running.

    `tls` says which certificates to trust at a `wss://` address, where the system's authorities know none of them.
    Raises: ModuleNotRunning; AuthorizationError where the module wants a `token`; ValueError for a bad address.
    """
    client = await Client.open(url, token=token, tls=tls)
    try:
        yield client
    finally:
        await client.aclose()
