"""A pool without workers, for tests of the server and of clients: scripted, or answering by itself."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from waifu_client.protocol import EnvironmentStats, ErrorCode, OptionDetails, ProviderDetails, WorkerStats
from waifu_llm.errors import Failure, ModuleError, UnknownProvider
from waifu_llm.supervision.afterwards import Afterwards
from waifu_llm.supervision.jobs import Ending, Job, LoadFields, LoadProgress, ModelList, Sink
from waifu_worker.wire import ModelInfo, Usage

PROVIDERS = ("echo", "openai")


@dataclass(frozen=True)
class FakeLoaded:
    provider: str
    warning: str | None = None
    api_key: str | None = field(default=None, repr=False)


@dataclass(eq=False)
class FakeLoad:
    """A load that waits for the test's word."""

    fields: LoadFields
    connection: object
    on_progress: Callable[[LoadProgress], None] | None
    outcome: asyncio.Future[FakeLoaded]
    cancelled: asyncio.Event

    def progress(self, stage: str = "environment", detail: str = "", fraction: float | None = None) -> None:
        assert self.on_progress is not None
        self.on_progress(LoadProgress(stage, detail, fraction))

    def succeed(self, warning: str | None = None) -> None:
        self.outcome.set_result(FakeLoaded(self.fields.provider, warning, self.fields.api_key))

    def fail(self, error: Exception) -> None:
        self.outcome.set_exception(error)


@dataclass(eq=False)
class FakeGeneration:
    """A generation whose text the test gives."""

    loaded: FakeLoaded
    job: Job
    connection: object
    sink: Sink
    cancelled: asyncio.Event

    def chunk(self, *texts: str) -> None:
        self.sink.chunks(texts)

    def end(self, ending: Ending | None = None) -> None:
        self.sink.ended(ending or Ending())

    def fail(self, code: ErrorCode, message: str = "it failed", reason: str | None = None) -> None:
        self.end(Ending(failure=Failure(code, message, reason)))


class FakePool:
    """Satisfies `jobs.PoolInterface`.

    With `by_itself`, known providers load at once and generations give the last message back word by word;
    without, every load and generation waits in `loads` and `generations` for the test to say how it goes.
    """

    def __init__(self, *, by_itself: bool = False) -> None:
        self.by_itself = by_itself
        self.afterwards = Afterwards()
        self.loads: asyncio.Queue[FakeLoad] = asyncio.Queue()
        self.generations: asyncio.Queue[FakeGeneration] = asyncio.Queue()
        self.released: list[object] = []
        self.unloaded: list[str] = []
        self.order: list[str] = []
        self.model_ids: tuple[str, ...] = ("echo", "echo-slow")
        self.model_warning: str | None = None
        self.models_error: Exception | None = None
        self.models_wait: asyncio.Event | None = None
        self.generate_error: Exception | None = None
        self.unload_error: Exception | None = None
        self.providers_error: Exception | None = None
        self.last: FakeLoaded | None = None
        self.closed = False

    @property
    def last_loaded(self) -> FakeLoaded | None:
        return self.last

    async def load(
        self, fields: LoadFields, connection: object, on_progress: Callable[[LoadProgress], None] | None = None
    ) -> FakeLoaded:
        self.order.append(f"load {fields.provider}")
        if fields.provider not in PROVIDERS:
            raise UnknownProvider(f"there is no provider {fields.provider!r}; there are: {', '.join(PROVIDERS)}")
        load = FakeLoad(fields, connection, on_progress, asyncio.get_running_loop().create_future(), asyncio.Event())
        self.loads.put_nowait(load)
        if self.by_itself:
            load.progress("worker", "starting", 0.5)
            load.succeed()
        try:
            self.last = await load.outcome
        except asyncio.CancelledError:
            load.cancelled.set()
            raise
        return self.last

    def release(self, connection: object) -> None:
        self.released.append(connection)

    def generate(self, loaded: object, job: Job, connection: object, sink: Sink) -> FakeGeneration:
        assert isinstance(loaded, FakeLoaded)
        self.order.append(f"generate {loaded.provider}")
        if self.generate_error is not None:
            raise self.generate_error
        generation = FakeGeneration(loaded, job, connection, sink, asyncio.Event())
        self.generations.put_nowait(generation)
        if self.by_itself:
            asyncio.get_running_loop().call_soon(_echo, generation)
        return generation

    def cancel(self, generation: object) -> None:
        assert isinstance(generation, FakeGeneration)
        self.order.append(f"cancel {generation.loaded.provider}")
        generation.cancelled.set()

    async def models(self, loaded: object) -> ModelList:
        if self.models_wait is not None:
            await self.models_wait.wait()
        if self.models_error is not None:
            raise self.models_error
        return ModelList([ModelInfo(id=name, kind="chat") for name in self.model_ids], self.model_warning)

    def providers(self) -> dict[str, ProviderDetails]:
        if self.providers_error is not None:
            raise self.providers_error
        return {name: provider_details(name) for name in reversed(PROVIDERS)}

    def workers(self) -> list[WorkerStats]:
        return [WorkerStats("echo", "ready", 1, 1, 0, 0, 1.0, 0)]

    def environments(self) -> list[EnvironmentStats]:
        return [EnvironmentStats("echo", "ready")]

    async def unload(self, provider: str) -> None:
        if self.unload_error is not None:
            raise self.unload_error
        if provider not in PROVIDERS:
            raise UnknownProvider(f"there is no provider {provider!r}")
        self.unloaded.append(provider)

    async def close(self) -> None:
        self.closed = True


def provider_details(name: str) -> ProviderDetails:
    options: Mapping[str, OptionDetails] = {"base_url": OptionDetails("string", "where the API is")}
    return ProviderDetails(
        title=name.capitalize(),
        description="a provider",
        homepage="https://example.org",
        category="api",
        installed=True,
        running=False,
        needs_api_key=name == "openai",
        has_api_key=False,
        abilities=["chat"],
        options=dict(options),
    )


def _echo(generation: FakeGeneration) -> None:
    """The last message, word by word; nothing any more once it was cancelled."""
    if generation.cancelled.is_set():
        return
    job = generation.job
    text = job.prompt if job.prompt is not None else job.messages[-1].content
    words = text.split(" ")
    for i, word in enumerate(words):
        if piece := word if i == 0 else f" {word}":
            generation.chunk(piece)
    usage = Usage(prompt_tokens=1, completion_tokens=len(words), total_tokens=1 + len(words))
    generation.end(Ending(usage=usage, finish_reason="stop"))


__all__ = ["FakeGeneration", "FakeLoad", "FakeLoaded", "FakePool", "ModuleError", "provider_details"]
