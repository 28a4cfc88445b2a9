"""The provider `ollama`: models that Ollama runs, through its own API."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import ClassVar, Final

from waifu_ollama.daemon import Daemon
from waifu_ollama.failures import refuses_think
from waifu_ollama.lines import AnswerReader
from waifu_ollama.settings import SAMPLERS, Settings, read_settings, tagged
from waifu_worker.chat_dialect import Learnt
from waifu_worker.http_client import HttpClient, Response, is_success
from waifu_worker.messages import name_in_front
from waifu_worker.provider import GenerateRequest, LoadRequest, LoadResult, Piece, ProviderError
from waifu_worker.provider import Provider as Interface
from waifu_worker.tls import without_certificates
from waifu_worker.upstream import Upstream, clean_key
from waifu_worker.wire import Code, ModelInfo

with without_certificates():
    import aiohttp

TITLE: Final = "Ollama"
# A worker that ends has about a second for all it has to close.
_UNLOAD_S: Final = 0.8
_THINK: Final = "think"
_NO_MODELS: Final = (
    "Ollama has no models yet: fetch one, such as with: ollama pull llama3.2, or load with preload_model_id and"
    " pull: true"
)


class Provider(Interface):
    """One Ollama, and the model in its memory that this load put there."""

    samplers = frozenset(SAMPLERS)
    takes_prompt = True
    thinks_in_text = True
    _learnt: ClassVar[Learnt] = Learnt()
    # How many loads of this worker want a model in memory that was not there before: the last one takes it out.
    _wanted: ClassVar[Counter[tuple[str, str]]] = Counter()

    def __init__(self) -> None:
        self._daemon: Daemon | None = None
        self._settings = Settings("")
        self._put: str | None = None

    async def load(self, request: LoadRequest) -> LoadResult:
        """Read the list of models; have the preloaded one in memory, pulled before where the load asks for it."""
        await self.close()
        settings = self._settings = read_settings(request.options)
        key = clean_key(request.api_key, TITLE)
        headers = {"Authorization": f"Bearer {key}" if key else None}
        client = HttpClient(aiohttp, Upstream(TITLE, settings.base_url, key), headers)
        daemon = self._daemon = Daemon(client, has_key=key is not None)
        models = await daemon.models()
        asked = request.preload_model_id
        if not asked:
            return LoadResult(models, None if models else _NO_MODELS)
        if settings.pull and tagged(asked) not in {tagged(model.id) for model in models}:
            await self._pull(daemon, asked, request.report)
            models = await daemon.models()
        request.report("model", f"reading {asked} into memory", None)
        await self._preload(daemon, asked)
        return LoadResult(models)

    async def models(self) -> Sequence[ModelInfo]:
        """What Ollama has now."""
        return await self._loaded().models()

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """Stream one answer. Ending the generator closes the connection, and Ollama stops generating."""
        daemon, params = self._loaded(), request.params
        response = await self._open(daemon, request)
        reader = AnswerReader(daemon.client.upstream, params.model_id)
        try:
            while not reader.over:
                try:
                    data = await response.content.readany()
                except daemon.client.network_errors as error:
                    raise daemon.client.lost(error) from error
                if texts := reader.feed(data):
                    yield texts
            if reader.failure is not None:
                raise reader.failure
            if reader.ended:
                yield reader.finish(params.max_output_length)
        finally:
            daemon.client.leave(response, complete=reader.ended)

    async def close(self) -> None:
        """Take the model that this load preloaded out of memory, and close every connection."""
        daemon, self._daemon = self._daemon, None
        put, self._put = self._put, None
        if daemon is None:
            return
        try:
            if put is not None and self._give_up(put):
                with suppress(ProviderError, TimeoutError):
                    async with asyncio.timeout(_UNLOAD_S):
                        await daemon.unload(put)
        finally:
            await daemon.close()

    def _loaded(self) -> Daemon:
        if self._daemon is None:
            raise ProviderError(Code.UNEXPECTED, f"{TITLE} is not loaded. Load it again.")
        return self._daemon

    async def _pull(self, daemon: Daemon, model: str, report: Callable[[str, str, float | None], None]) -> None:
        report("model", f"pulling {model}", None)
        await daemon.pull(model, lambda status, fraction: report("model", f"pulling {model}: {status}", fraction))

    async def _preload(self, daemon: Daemon, model: str) -> None:
        """A model that is in memory already, for somebody else, stays there when this load goes."""
        ours = self._wanted[self._place(model)] > 0
        if not ours:
            with suppress(ProviderError):
                ours = tagged(model) not in await daemon.in_memory()
        if ours:
            self._wanted[self._place(model)] += 1
            self._put = model
        try:
            await daemon.load(model, self._settings.memory)
        except ProviderError:
            if ours:
                self._put = None
                self._give_up(model)
            raise

    def _give_up(self, model: str) -> bool:
        """One load less wants it; true where that was the last."""
        place = self._place(model)
        self._wanted[place] -= 1
        if self._wanted[place] > 0:
            return False
        del self._wanted[place]
        return True

    def _place(self, model: str) -> tuple[str, str]:
        return self._settings.base_url, tagged(model)

    async def _open(self, daemon: Daemon, request: GenerateRequest) -> Response:
        """The response to a request, without the word about thinking where the model refuses it."""
        model, base_url = request.params.model_id, self._settings.base_url
        path, body = self._asked(request)
        while True:
            if _THINK in self._learnt.refused(base_url, model):
                body.pop(_THINK, None)
            response = await daemon.post(path, body)
            if is_success(response) and response.content_type != "text/html":
                return response
            try:
                refusal = await daemon.refusal(response, model)
            finally:
                response.close()
            if _THINK not in body or not refuses_think(refusal):
                raise daemon.failure(refusal)
            self._learnt.add_refused(base_url, model, _THINK)

    def _asked(self, request: GenerateRequest) -> tuple[str, dict[str, object]]:
        """Where a request goes, and its body."""
        body: dict[str, object] = {"model": request.params.model_id, "stream": True}
        body |= self._settings.generation(request.params)
        if request.prompt is not None:
            return "/api/generate", {**body, "prompt": request.prompt, "raw": True}
        messages = [{"role": message.role, "content": name_in_front(message).content} for message in request.messages]
        return "/api/chat", {**body, "messages": messages, _THINK: False}
