"""What passes between the pool and those who ask it: loads, generations and how they end. No logic."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from waifu_client.protocol import EnvironmentStats, ProviderDetails, WorkerStats
from waifu_llm.errors import Failure
from waifu_llm.supervision.afterwards import Afterwards
from waifu_worker.wire import ChatMessage, ModelInfo, Params, Usage


class LoadProgress(msgspec.Struct, frozen=True):
    """`stage`: environment, worker, provider or model; `fraction` 0..1, or None where it is not known."""

    stage: str
    detail: str
    fraction: float | None


class LoadFields(msgspec.Struct, frozen=True):
    """A load as a client asked for it; `fields` holds everything provider-specific, unchecked."""

    provider: str
    api_key: str | None
    preload_model_id: str | None
    fields: Mapping[str, object]

    def __repr__(self) -> str:
        return f"LoadFields({self.provider!r}, preload_model_id={self.preload_model_id!r}, fields={self.fields!r})"


class ModelList(msgspec.Struct, frozen=True):
    """The models a provider has, and a warning where the list could not be read."""

    models: Sequence[ModelInfo]
    warning: str | None = None


class Job(msgspec.Struct, frozen=True):
    """One generation: the wire's fields without its ids. `deadline` is on the loop's clock, None for none.

    `size` is about how much memory it takes, in bytes.
    """

    params: Params
    messages: tuple[ChatMessage, ...]
    prompt: str | None
    stream: bool
    deadline: float | None
    size: int = 0


class Ending(msgspec.Struct, frozen=True):
    """How a generation ended: well where `failure` is None."""

    failure: Failure | None = None
    usage: Usage | None = None
    finish_reason: str | None = None
    ignored: tuple[str, ...] = ()


class Sink(Protocol):
    """Where a generation's text goes. Called on the event loop; must not block or raise."""

    def chunks(self, texts: Sequence[str]) -> None:
        """Pieces of text that came together, in order; at least one, none of them empty."""

    def ended(self, ending: Ending) -> None:
        """Exactly once, and nothing after it; never for a generation that was cancelled through the pool."""


class Loaded(Protocol):
    """A load that succeeded: valid across a stop, a crash and an unload of its worker."""

    @property
    def provider(self) -> str:
        """The provider's name."""

    @property
    def warning(self) -> str | None:
        """What the provider said beside its success."""


class Generation(Protocol):
    """A generation that was handed to the pool, queued or running."""


class PoolInterface(Protocol):
    """What the server and its sessions use of the pool. `connection` is any hashable object, one per connection."""

    @property
    def afterwards(self) -> Afterwards:
        """Where a sink puts off what may wait until all that a worker said at once has reached its sinks."""

    @property
    def last_loaded(self) -> Loaded | None:
        """The load that succeeded last, whoever asked for it."""

    async def load(
        self, fields: LoadFields, connection: object, on_progress: Callable[[LoadProgress], None] | None = None
    ) -> Loaded:
        """Build, start and load what is needed; the connection then holds the result until `release`.

        Raises: ModuleError. Cancelling it is safe: the build goes on, a preload stops when nobody waits any more.
        """

    def release(self, connection: object) -> None:
        """The connection is gone: it holds nothing any more. Its generations must have been cancelled."""

    def generate(self, loaded: Loaded, job: Job, connection: object, sink: Sink) -> Generation:
        """Queue or start a generation, in the share of `connection`: a gateway's generations have one each.

        Raises: ModuleError (Busy, Closing); other failures reach the sink.
        """

    def cancel(self, generation: Generation) -> None:
        """End it: its sink hears nothing more. The worker is killed where it does not stop in time."""

    async def models(self, loaded: Loaded) -> ModelList:
        """The model list, within 800 ms. Raises: ModuleError. Cancelling it is safe."""

    def providers(self) -> dict[str, ProviderDetails]:
        """Every worker there is, with what a program can show about it before loading it."""

    def workers(self) -> list[WorkerStats]:
        """The workers that were started and not forgotten yet, and the gateways."""

    def environments(self) -> list[EnvironmentStats]:
        """The environment of every worker there is, and of the gateways that are installed or enabled."""

    async def unload(self, provider: str) -> None:
        """Stop the provider's workers; running generations end with INTERRUPT. Raises: UnknownProvider."""

    async def close(self) -> None:
        """Stop everything; every generation still running ends with INTERRUPT first. Called once."""
