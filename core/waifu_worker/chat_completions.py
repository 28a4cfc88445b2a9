"""The shared translation of OpenAI-style APIs; what tells one service from another is a `Dialect`.

A worker hands in a ready `HttpClient`; nothing here knows an SDK, a key or an environment variable.
"""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import ClassVar, Final

import msgspec

from waifu_worker.chat_dialect import Dialect, Learnt
from waifu_worker.chat_stream import AnswerReader
from waifu_worker.framing import DECODE_ERRORS
from waifu_worker.http_client import Body, HttpClient, Response, is_success
from waifu_worker.http_errors import failure, refused_field, refuses_only_value
from waifu_worker.provider import GenerateRequest, LoadRequest, LoadResult, Piece, Provider, ProviderError
from waifu_worker.wire import Code, ModelInfo

# How long the rest of a stream may take once the answer is complete: the usage comes after the finish reason.
_AFTER_FINISH_S: Final = 1.0


class ChatCompletions:
    """One loaded OpenAI-style service."""

    def __init__(self, client: HttpClient, dialect: Dialect, learnt: Learnt) -> None:
        self._client = client
        self._dialect = dialect
        self._learnt = learnt
        self._models: Sequence[ModelInfo] = ()

    async def load(self, preload_model_id: str | None) -> LoadResult:
        """Check the key and read the model list: one request that costs nothing, two where anybody may read the list.

        Raises: ProviderError.
        """
        if self._dialect.key_path is not None:
            await self._client.get(self._dialect.key_path)
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
        path, dialect = self._route(request)
        response = await self._open(path, dialect, request)
        reader = AnswerReader(self._client.upstream, request.params.model_id)
        try:
            content = response.content
            whole = response.content_type == "application/json"  # from a service that doesn't stream
            if whole and (texts := reader.whole(await self._client.read(response))):
                yield texts
            while not reader.over:
                try:
                    data = await content.readany()
                except self._client.network_errors as error:
                    raise self._client.lost(error) from error
                if texts := reader.feed(data) if data else reader.end():
                    yield texts
            if reader.failure is not None:
                raise reader.failure
            if reader.ended:
                if not reader.done and (texts := await self._rest(content, reader)):
                    yield texts
                yield reader.finish(request.params.max_output_length)
        finally:
            self._client.leave(response, complete=reader.done)
            if dialect.thinking_extra and reader.thinks_in_text:
                self._learnt.add_thinker(self._client.upstream.base_url + path, request.params.model_id)

    async def _rest(self, content: Body, reader: AnswerReader) -> list[str]:
        """Read on to the last event of a complete answer, within limits; whatever goes wrong, it was complete."""
        texts: list[str] = []
        with suppress(*self._client.network_errors):
            async with asyncio.timeout(_AFTER_FINISH_S):
                while not reader.done and not content.at_eof():
                    texts += reader.feed(await content.readany())
        return texts

    def _route(self, request: GenerateRequest) -> tuple[str, Dialect]:
        """Where a request goes, and in which dialect."""
        if request.prompt is None:
            return self._dialect.chat_path, self._dialect
        if self._dialect.text_path is None:
            raise ProviderError(
                Code.INVALID_PROMPT, f"{self._dialect.title} completes no raw text: give messages instead of a prompt"
            )
        return self._dialect.text_path, self._dialect.for_text()

    async def _open(self, path: str, dialect: Dialect, request: GenerateRequest) -> Response:
        """The response to a request without what the model refuses; what fell away is said in the request."""
        params, model = request.params, request.params.model_id
        url = self._client.upstream.base_url + path
        said = (
            {"prompt": request.prompt}
            if request.prompt is not None
            else {"messages": dialect.messages(request.messages)}
        )
        fixed = {"model": model, **said, "stream": True}
        refused_now: frozenset[str] = frozenset()
        while True:
            refused = self._learnt.refused(url, model) | refused_now
            fields = dialect.fields(params, refused, thinks=self._learnt.thinks(url, model))
            response = await self._client.stream(path, {**fixed, **fields})
            if is_success(response) and response.content_type != "text/html":
                request.ignored.extend(dialect.ignored(params, fields))
                return response
            try:
                refusal = await self._client.refusal(response, model)
            finally:
                response.close()
            name = refused_field(refusal, fields)
            if name is None or _is_over(request.deadline):
                raise failure(self._client.upstream, refusal)
            if not refuses_only_value(refusal):
                self._learnt.add_refused(url, model, name)
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
        return tuple({entry.id: entry.info() for entry in entries if entry.active is not False}.values())


class ChatCompletionsProvider(Provider):
    """The Provider of a worker whose service is an OpenAI-style one; the worker says which and how to connect.

    `dialect` may be set anew by `connect`, where the load's options decide it.
    """

    dialect: Dialect
    _learnt: ClassVar[Learnt] = Learnt()

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
        self._chat = ChatCompletions(self._client, self.dialect, self._learnt)
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
    max_context_length: object = None
    active: object = None

    def info(self) -> ModelInfo:
        lengths = (self.context_window, self.context_length, self.max_model_len, self.max_context_length)
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
