"""Ollama's own API, as far as it is needed: what it has, what it holds in memory, and how that is changed."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final

import msgspec

from waifu_ollama.failures import not_running, told
from waifu_ollama.lines import Lines, broken, read_line
from waifu_ollama.settings import tagged
from waifu_worker.framing import DECODE_ERRORS
from waifu_worker.http_client import HttpClient, Response, is_success
from waifu_worker.http_errors import Refusal, details_of
from waifu_worker.provider import ProviderError
from waifu_worker.wire import Code, ModelInfo

# Details of models are nice to have: a list that takes longer comes without.
_DETAILS_S: Final = 2.0
_AT_ONCE: Final = 8
_MOST_DETAILS: Final = 1024


class _Tag(msgspec.Struct):
    name: str
    size: int | None = None
    digest: str = ""


class _Tags(msgspec.Struct):
    models: list[_Tag] | None = None


class _Details(msgspec.Struct):
    capabilities: list[str] | None = None
    model_info: dict[str, Any] | None = None

    @property
    def kind(self) -> str | None:
        """`chat` for what writes text, else what Ollama calls it."""
        if not self.capabilities:
            return None
        return "chat" if "completion" in self.capabilities else self.capabilities[0]

    @property
    def context(self) -> int | None:
        """The longest context that the model can have."""
        lengths = (value for name, value in (self.model_info or {}).items() if name.endswith(".context_length"))
        return next((length for length in lengths if isinstance(length, int) and length > 0), None)


class _Progress(msgspec.Struct, gc=False):
    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: object = None


_decode_progress: Final = msgspec.json.Decoder(_Progress).decode


class Daemon:
    """One Ollama. Every method raises ProviderError where it fails; cancelling any is safe."""

    # By digest: it names a model's bytes, which don't change.
    _known: ClassVar[dict[str, _Details]] = {}

    def __init__(self, client: HttpClient, *, has_key: bool) -> None:
        self.client = client
        self._has_key = has_key

    async def close(self) -> None:
        """Close every connection."""
        await self.client.close()

    async def post(self, path: str, body: Mapping[str, object]) -> Response:
        """A response with its headers only, of any status. The caller must close it."""
        try:
            return await self.client.stream(path, body)
        except ProviderError as error:
            raise not_running(self.client.upstream, error) from error

    async def refusal(self, response: Response, model: str) -> Refusal:
        """What a failed response says."""
        return await self.client.refusal(response, model)

    def failure(self, refusal: Refusal) -> ProviderError:
        """The error for it."""
        return told(self.client.upstream, refusal, has_key=self._has_key)

    async def answered(self, path: str, body: Mapping[str, object], model: str) -> bytes:
        """The whole answer to a request about a model."""
        response = await self.post(path, body)
        try:
            if not is_success(response):
                raise self.failure(await self.refusal(response, model))
            return await self.client.read(response)
        finally:
            response.close()

    async def models(self) -> Sequence[ModelInfo]:
        """What it has, with what is known of each."""
        tags = await self._list("/api/tags")
        with suppress(TimeoutError):
            async with asyncio.timeout(_DETAILS_S):
                await self._learn(tag for tag in tags if tag.digest not in self._known)
        return tuple(self._info(tag) for tag in tags)

    async def in_memory(self) -> frozenset[str]:
        """The full names of the models that are in memory."""
        return frozenset(tagged(tag.name) for tag in await self._list("/api/ps"))

    async def load(self, model: str, memory: Mapping[str, object]) -> None:
        """Read a model into memory; returns when it is there."""
        await self.answered("/api/chat", {"model": model, "messages": [], "stream": False, **memory}, model)

    async def unload(self, model: str) -> None:
        """Take a model out of memory."""
        await self.answered("/api/chat", {"model": model, "messages": [], "stream": False, "keep_alive": 0}, model)

    async def pull(self, model: str, report: Callable[[str, float | None], None]) -> None:
        """Download a model; what was downloaded by a pull that was cancelled need not be again."""
        response = await self.post("/api/pull", {"model": model, "stream": True})
        complete = False
        try:
            if not is_success(response):
                raise self.failure(await self.refusal(response, model))
            progress = _PullReader(self, model, report)
            while not progress.done:
                try:
                    data = await response.content.readany()
                except self.client.network_errors as error:
                    raise self.client.lost(error) from error
                progress.feed(data)
            complete = True
        finally:
            self.client.leave(response, complete=complete)

    async def _list(self, path: str) -> list[_Tag]:
        try:
            body = await self.client.get(path)
        except ProviderError as error:
            if error.http_status is None and error.reason == "provider_down":
                raise not_running(self.client.upstream, error) from error
            raise
        try:
            return msgspec.json.decode(body, type=_Tags).models or []
        except DECODE_ERRORS as error:
            raise broken(
                f"{self.client.upstream.host} does not answer with a list of models, as Ollama does"
            ) from error

    async def _learn(self, tags: Iterable[_Tag]) -> None:
        places = asyncio.Semaphore(_AT_ONCE)

        async def learn(tag: _Tag) -> None:
            with suppress(ProviderError, *DECODE_ERRORS):
                async with places:
                    body = await self.answered("/api/show", {"model": tag.name}, tag.name)
                self._known[tag.digest] = msgspec.json.decode(body, type=_Details)

        if len(self._known) > _MOST_DETAILS:
            self._known.clear()
        async with asyncio.TaskGroup() as tasks:
            for tag in tags:
                tasks.create_task(learn(tag))

    def _info(self, tag: _Tag) -> ModelInfo:
        details = self._known.get(tag.digest) or _Details()
        return ModelInfo(id=tag.name, kind=details.kind, size_bytes=tag.size, context=details.context)


class _PullReader:
    """Follows one download. `done`: it is complete."""

    def __init__(self, daemon: Daemon, model: str, report: Callable[[str, float | None], None]) -> None:
        self.done = False
        self._daemon = daemon
        self._model = model
        self._report = report
        self._lines = Lines()
        self._layers: dict[str, tuple[int, int]] = {}
        self._told: tuple[str, float] = ("", -1.0)

    def feed(self, data: bytes) -> None:
        """One read of the stream; b"" is its end. Raises: ProviderError."""
        for raw in self._lines.feed(data) if data else self._lines.finish():
            self._take(raw)
        if not data and not self.done:
            raise ProviderError(
                Code.UNEXPECTED,
                f"the download of {self._model} broke off. Load again: it goes on where it was.",
                reason="truncated",
            )

    def _take(self, raw: bytes) -> None:
        line = read_line(raw, _Progress, _decode_progress)
        if line is None:
            return
        if line.error is not None:
            refusal = Refusal(None, details_of(line.error), model=self._model)
            raise self._daemon.failure(refusal)
        if line.digest and line.total:
            self._layers[line.digest] = line.completed, line.total
        self.done = self.done or line.status == "success"
        self._tell(line.status)

    def _tell(self, status: str) -> None:
        """Layers become known one after the other: the fraction never goes back, and moves in whole percents."""
        completed, total = (
            (sum(column) for column in zip(*self._layers.values(), strict=True)) if self._layers else (0, 0)
        )
        percent = completed * 100 // total if total else -1
        fraction = max(percent / 100, self._told[1])
        if (status, fraction) != self._told:
            self._told = status, fraction
            self._report(status, fraction if fraction >= 0 else None)
