"""The provider `novelai`: both generations of NovelAI's text API, one answer at a time.

NovelAI runs one generation per account and refuses a second one. Here it waits for its turn instead; and since the
account stays locked for a moment after a connection was closed, that refusal is tried again, about once a second.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from typing import ClassVar, Final, cast
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from waifu_novelai.failures import is_locked, sharpened
from waifu_novelai.older import FAMILIES, OLDER_SAMPLERS, OlderRoute, family_of
from waifu_worker.chat_completions import ChatCompletionsProvider
from waifu_worker.chat_dialect import Dialect
from waifu_worker.http_client import HttpClient
from waifu_worker.provider import GenerateRequest, LoadRequest, LoadResult, Piece, ProviderError
from waifu_worker.tls import without_certificates
from waifu_worker.upstream import Upstream, clean_base_url, clean_key
from waifu_worker.wire import Code, ModelInfo

with without_certificates():
    import aiohttp

NOVELAI: Final = Dialect(
    title="NovelAI",
    length_fields=("max_tokens",),
    stop_limit=None,
    samplers={name: name for name in ("top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "seed")},
    extra={"enable_thinking": False},
    usage_option=False,
    chat_path="/oa/v1/chat/completions",
    text_path="/oa/v1/completions",
    models_path="/oa/v1/models",
)
# The service lists nothing to some accounts, and may leave out the models of its older route.
CHAT_MODELS: Final = ("glm-4-6", "xialong-v1")
KNOWN: Final = (
    *(ModelInfo(id=name, kind="chat", owner="novelai") for name in CHAT_MODELS),
    *(ModelInfo(id=family.newest, kind="text", owner="novelai") for family in FAMILIES),
)


class Provider(ChatCompletionsProvider):
    """One NovelAI account."""

    dialect = NOVELAI
    samplers = frozenset(NOVELAI.samplers) | frozenset(OLDER_SAMPLERS)
    takes_stop_ids = True
    takes_prompt = True
    retry_s: ClassVar[float] = 1.0
    # A worker's process serves one account, so its turns are everybody's in it.
    _turns: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]] = WeakKeyDictionary()

    def connect(self, request: LoadRequest) -> HttpClient:
        """Connections that carry the token."""
        key = clean_key(request.api_key, NOVELAI.title)
        upstream = Upstream(NOVELAI.title, clean_base_url(request.options.get("base_url")), key)
        return HttpClient(aiohttp, upstream, {"Authorization": f"Bearer {key}" if key else None})

    async def load(self, request: LoadRequest) -> LoadResult:
        """One free request that is refused to bad tokens; what it lists and the models known without it."""
        result = await super().load(replace(request, preload_model_id=None))
        models = _with_known(result.models)
        asked = request.preload_model_id
        if asked and asked not in {model.id for model in models}:
            return LoadResult(models, f"NovelAI does not list the model {asked}")
        return LoadResult(models, result.warning)

    async def models(self) -> Sequence[ModelInfo]:
        """What the account may use now, and the models known without asking."""
        return _with_known(await super().models())

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """One answer, once it is this request's turn. Cancelling it while it waits, or later, is safe."""
        self._loaded()
        async with self._turn():
            while True:
                began = False
                try:
                    async with aclosing(self._answer(request)) as pieces:
                        async for piece in pieces:
                            began = True
                            yield piece
                except ProviderError as error:
                    failure = sharpened(error, request.params.model_id)
                    if began or not is_locked(failure) or self._too_late(request.deadline):
                        raise failure from None
                else:
                    return
                await asyncio.sleep(self.retry_s)

    def _answer(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
        """The pieces from the route that has the model."""
        model = request.params.model_id
        family = family_of(model)
        if family is None and request.params.stop_ids:
            names = " and ".join(family.newest for family in FAMILIES)
            raise ProviderError(
                Code.INVALID_PROMPT,
                f"{model} takes no token ids as stops, only {names} do: give the stop texts instead",
            )
        assert self._client is not None
        route = super().generate(request) if family is None else OlderRoute(self._client, family).generate(request)
        return cast("AsyncGenerator[Piece, None]", route)

    def _turn(self) -> asyncio.Lock:
        return self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    def _too_late(self, deadline: float | None) -> bool:
        return deadline is not None and asyncio.get_running_loop().time() + self.retry_s >= deadline


def _with_known(listed: Iterable[ModelInfo]) -> Sequence[ModelInfo]:
    known = {model.id: model for model in KNOWN}
    for model in listed:
        ours = known.get(model.id, ModelInfo(id=model.id, kind="chat"))
        known[model.id] = ModelInfo(
            id=model.id, kind=ours.kind, owner=model.owner or ours.owner, context=model.context or ours.context
        )
    return tuple(known.values())
