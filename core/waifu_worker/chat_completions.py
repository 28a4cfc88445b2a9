"""The shared translation of OpenAI-style APIs; what tells one service from another is a `Dialect`.

A worker hands in a ready `HttpClient`; nothing here knows an SDK, a key or an environment variable.
"""

import asyncio
import re
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar, Final, TypeAlias

import msgspec

from waifu_worker.chat_stream import AnswerReader
from waifu_worker.framing import DECODE_ERRORS
from waifu_worker.http_client import Body, HttpClient, Response, is_success
from waifu_worker.http_errors import failure, refused_field, refuses_only_value
from waifu_worker.messages import name_in_front
from waifu_worker.provider import GenerateRequest, LoadRequest, LoadResult, Piece, Provider, ProviderError
from waifu_worker.wire import ChatMessage, Code, ModelInfo, Params

JsonValue: TypeAlias = "str | int | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"

# How long the rest of a stream may take once the answer is complete: the usage comes after the finish reason,
# and a body read to its end leaves the connection fit for the next request.
_AFTER_FINISH_S: Final = 1.0
_AFTER_DONE_S: Final = 0.05
# Model ids are the clients' to choose; what is forgotten costs one refused request to learn again.
_MOST_MODELS: Final = 1024


@dataclass(frozen=True, slots=True)
class Dialect:
    """What tells one OpenAI-style service from another.

    `length_fields`: names of the field for the output length; a refused one makes way for the next.
    `stop_limit`: how many stops it takes, None for any number; the runtime enforces all of them anyway.
    `names`: what a message's `name` must match; None where the service has no such field.
    `temperature`: the range it takes. `samplers`: its field for each sampling parameter that it has.
    `extra`: fields to send with every request. `usage_option`: whether it takes `stream_options`.
    """

    title: str
    length_fields: tuple[str, ...] = ("max_completion_tokens", "max_tokens")
    stop_limit: int | None = 4
    names: re.Pattern[str] | None = None
    temperature: tuple[float, float] = (0.0, 2.0)
    samplers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, JsonValue] = field(default_factory=dict)
    usage_option: bool = True
    chat_path: str = "/chat/completions"
    models_path: str = "/models"

    def messages(self, messages: Iterable[ChatMessage]) -> list[dict[str, str]]:
        """The messages as the service takes them; a name that doesn't fit goes in front of the content."""
        return [self._message(message) for message in messages]

    def fields(self, params: Params, refused: frozenset[str]) -> dict[str, JsonValue]:
        """All fields that the service might refuse by name, without those it has refused."""
        low, high = self.temperature
        stops = [stop for stop in params.stops if stop][: self.stop_limit]
        fields: dict[str, JsonValue] = {"temperature": min(max(params.temperature, low), high)}
        if stops:
            fields["stop"] = stops
        if self.usage_option:
            fields["stream_options"] = {"include_usage": True}
        for ours, theirs in self.samplers.items():
            value = getattr(params, ours)
            if value is not None:
                fields[theirs] = value
        fields |= self.extra
        length = next((name for name in self.length_fields if name not in refused), None)
        if length is not None:
            fields[length] = params.max_output_length
        return {name: value for name, value in fields.items() if name not in refused}

    def ignored(self, params: Params, sent: Mapping[str, JsonValue]) -> tuple[str, ...]:
        """The client's parameters that the service did not get; 1 is the temperature of those that take none."""
        ignored = []
        if "temperature" not in sent and params.temperature != 1:
            ignored.append("temperature")
        if not any(name in sent for name in self.length_fields):
            ignored.append("max_output_length")
        given = (ours for ours in self.samplers if getattr(params, ours) is not None)
        return *ignored, *(ours for ours in given if self.samplers[ours] not in sent)

    def _message(self, message: ChatMessage) -> dict[str, str]:
        if self.names is not None and message.name and self.names.fullmatch(message.name):
            return {"role": message.role, "content": message.content, "name": message.name}
        return {"role": message.role, "content": name_in_front(message).content}


class RefusedFields:
    """Which fields each model has refused. Kept for a worker's life: model tables rot too fast to ship one."""

    def __init__(self) -> None:
        self._by_model: dict[tuple[str, str], frozenset[str]] = {}

    def of(self, base_url: str, model: str) -> frozenset[str]:
        """The fields that this model of this service refused so far."""
        return self._by_model.get((base_url, model), frozenset())

    def add(self, base_url: str, model: str, name: str) -> None:
        """Never send the field `name` to this model again."""
        if len(self._by_model) >= _MOST_MODELS:
            self._by_model.clear()
        self._by_model[base_url, model] = self.of(base_url, model) | {name}


class ChatCompletions:
    """One loaded OpenAI-style service."""

    def __init__(self, client: HttpClient, dialect: Dialect, refused: RefusedFields) -> None:
        self._client = client
        self._dialect = dialect
        self._refused = refused
        self._models: Sequence[ModelInfo] = ()

    async def load(self, preload_model_id: str | None) -> LoadResult:
        """Check the key and read the model list: one request that costs nothing. Raises: ProviderError."""
        try:
            self._models = await self._list()
        except ProviderError as error:
            if not _is_forbidden(error):
                raise
            return LoadResult((), f"the key is valid, but may not read the list of models ({error.message})")
        unlisted = preload_model_id and preload_model_id not in {model.id for model in self._models}
        title = self._dialect.title
        return LoadResult(self._models, f"{title} does not list the model {preload_model_id}" if unlisted else None)

    async def models(self) -> Sequence[ModelInfo]:
        """The list as it is now; the last one known where the key may not read it. Raises: ProviderError."""
        try:
            self._models = await self._list()
        except ProviderError as error:
            if not _is_forbidden(error):
                raise
        return self._models

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """Stream one answer. Ending the generator closes the connection at once. Raises: ProviderError."""
        response, ignored = await self._open(request)
        try:
            reader = AnswerReader(self._client.upstream, request.params.model_id)
            streams = response.content_type != "application/json"
            while not reader.over:
                for text in await self._read(response, reader, streams):
                    yield text
            if reader.failure is not None:
                raise reader.failure
            if reader.ended:
                for text in await self._rest(response.content, reader):
                    yield text
                yield reader.finish(request.params.max_output_length, ignored)
        finally:
            # Not read to its end, the connection is closed here and now, so that the service stops generating.
            response.close()

    async def _read(self, response: Response, reader: AnswerReader, streams: bool) -> list[str]:
        """The pieces of text in what the service has sent by now, all at once."""
        if not streams:
            return reader.whole(await self._client.read(response))
        try:
            data = await response.content.readany()
        except self._client.network_errors as error:
            raise self._client.lost(error) from error
        return reader.feed(data) if data else reader.end()

    async def _rest(self, content: Body, reader: AnswerReader) -> list[str]:
        """Read on to the end of a complete answer, within narrow limits; whatever goes wrong, it was complete."""
        texts: list[str] = []
        with suppress(*self._client.network_errors):
            async with asyncio.timeout(_AFTER_FINISH_S):
                while not reader.done and not content.at_eof():
                    texts += reader.feed(await content.readany())
            async with asyncio.timeout(_AFTER_DONE_S):
                while not content.at_eof():
                    await content.readany()
        return texts

    async def _open(self, request: GenerateRequest) -> tuple[Response, tuple[str, ...]]:
        """The response to a request without what the model refuses, and the client's parameters that fell away."""
        dialect, params, base_url = self._dialect, request.params, self._client.upstream.base_url
        fixed = {"model": params.model_id, "messages": dialect.messages(request.messages), "stream": True}
        refused_now: frozenset[str] = frozenset()
        while True:
            fields = dialect.fields(params, self._refused.of(base_url, params.model_id) | refused_now)
            response = await self._client.stream(dialect.chat_path, {**fixed, **fields})
            if is_success(response) and response.content_type != "text/html":
                return response, dialect.ignored(params, fields)
            try:
                refusal = await self._client.refusal(response, params.model_id)
            finally:
                response.close()
            name = refused_field(refusal, fields)
            if name is None or _is_over(request.deadline):
                raise failure(self._client.upstream, refusal)
            if not refuses_only_value(refusal):
                self._refused.add(base_url, params.model_id, name)
            elif name in dialect.length_fields:
                refused_now |= set(dialect.length_fields)
            refused_now |= {name}

    async def _list(self) -> Sequence[ModelInfo]:
        body = await self._client.get(self._dialect.models_path)
        try:
            entries = msgspec.json.decode(body, type=_ModelList).data
        except DECODE_ERRORS as error:
            upstream = self._client.upstream
            raise ProviderError(
                Code.UNEXPECTED, f"{upstream.host} does not answer with a list of models. Check base_url."
            ) from error
        return tuple({entry.id: entry.info() for entry in entries}.values())


class ChatCompletionsProvider(Provider):
    """The Provider of a worker whose service is an OpenAI-style one; the worker says which and how to connect."""

    dialect: ClassVar[Dialect]
    _refused: ClassVar[RefusedFields] = RefusedFields()

    def __init__(self) -> None:
        self._client: HttpClient | None = None
        self._chat: ChatCompletions | None = None

    @abstractmethod
    def connect(self, request: LoadRequest) -> HttpClient:
        """The connections of this load. Raises: ProviderError where an option or the key can't be right."""

    async def load(self, request: LoadRequest) -> LoadResult:
        """One free request: the model list, which the service gives to good keys only."""
        await self.close()
        self._client = self.connect(request)
        self._chat = ChatCompletions(self._client, self.dialect, self._refused)
        return await self._chat.load(request.preload_model_id)

    async def models(self) -> Sequence[ModelInfo]:
        """The model list, read again."""
        return await self._loaded().models()

    def generate(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """One streamed answer."""
        return self._loaded().generate(request)

    async def close(self) -> None:
        """Close every connection; what still streams ends with an error."""
        client, self._client, self._chat = self._client, None, None
        if client is not None:
            await client.close()

    def _loaded(self) -> ChatCompletions:
        if self._chat is None:
            raise ProviderError(Code.UNEXPECTED, f"{self.dialect.title} is not loaded. Load it again.")
        return self._chat


class _Model(msgspec.Struct):
    id: str
    owned_by: object = None
    context_window: object = None
    context_length: object = None
    max_model_len: object = None

    def info(self) -> ModelInfo:
        lengths = (self.context_window, self.context_length, self.max_model_len)
        return ModelInfo(
            id=self.id,
            owner=self.owned_by if isinstance(self.owned_by, str) else None,
            context=next((length for length in lengths if isinstance(length, int) and length > 0), None),
        )


class _ModelList(msgspec.Struct):
    data: list[_Model]


def _is_forbidden(error: ProviderError) -> bool:
    """A list that the key may not read: restricted keys may chat all the same."""
    return error.code is Code.AUTHORIZATION and error.http_status == 403


def _is_over(deadline: float | None) -> bool:
    return deadline is not None and asyncio.get_running_loop().time() >= deadline
