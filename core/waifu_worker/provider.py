"""The interface that the author of a provider implements: load, models, generate, close.

The package that the manifest names has an attribute `Provider`, a class made without arguments. One object
stands for one set of load fields; several may live in one worker. All methods run on one event loop, so a
call that blocks belongs in a thread.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import msgspec

from waifu_worker.wire import ChatMessage, Code, ModelInfo, OptionValue, Params, Usage


class ProviderError(Exception):
    """A failure with an outward code. `message` says what to do next and holds no key.

    `reason` is one of PROTOCOL's (rate_limited, provider_down, quota, refused, truncated, busy,
    out_of_memory, provider_timeout) where one fits.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        reason: str | None = None,
        retry_after_ms: int | None = None,
        http_status: int | None = None,
        provider_code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.retry_after_ms = retry_after_ms
        self.http_status = http_status
        self.provider_code = provider_code


class LoadRequest(msgspec.Struct, frozen=True):
    """What a load brings. `options` holds every option of the manifest, defaults filled in by the core.

    `report(stage, detail, fraction)` tells whoever waits how far it is; stage "model" begins a preload or a
    pull, which may take any time, while all before it is bounded by the core's key-check limit.
    """

    api_key: str | None
    options: dict[str, OptionValue]
    preload_model_id: str | None
    report: Callable[[str, str, float | None], None]

    def __repr__(self) -> str:
        return f"LoadRequest(options={sorted(self.options)}, preload_model_id={self.preload_model_id!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """As little for those who show values with `rich`, which does not ask for the text above."""
        return [("options", sorted(self.options))]


class LoadResult(msgspec.Struct, frozen=True):
    """What a load gives: the models there are, and a warning where all is not as asked."""

    models: Sequence[ModelInfo]
    warning: str | None = None


class GenerateRequest(msgspec.Struct, frozen=True):
    """One generation. Exactly one of `messages` and `prompt` is set.

    Roles are system, user and assistant: the runtime has turned tool and function messages into user
    messages. `params.stops` and the name prefix are applied by the runtime in any case; a provider sends its
    API as many stops as that takes. `deadline` is on the event loop's clock, None for none. To `ignored` the
    provider adds what the client gave and the service does not use, before its first text: an answer may end at a
    stop that only the runtime sees.
    """

    params: Params
    messages: Sequence[ChatMessage]
    prompt: str | None
    deadline: float | None
    ignored: list[str] = []


class Finish(msgspec.Struct, frozen=True):
    """The last thing a generation yields: the provider said that the answer is complete.

    `reason`: stop, length or content_filter.
    """

    reason: str | None = None
    usage: Usage | None = None
    warning: str | None = None


# A list holds pieces that came together, such as those of one read: what is handed on at once costs far less.
Piece: TypeAlias = str | list[str] | Finish


class Provider(ABC):
    """One loaded provider.

    `samplers` names the optional sampling parameters (top_p, top_k, ...) that the provider uses; the runtime
    reports the others as ignored. `takes_stop_ids` and `takes_prompt` say whether token ids work as stops
    and whether raw text can be completed; where they do not, the runtime answers INVALID_PROMPT.
    `thinks_in_text` says that models write their thinking into the answer: the runtime then takes a
    `<think>...</think>` at the start of it away.
    """

    samplers: ClassVar[frozenset[str]] = frozenset()
    takes_stop_ids: ClassVar[bool] = False
    takes_prompt: ClassVar[bool] = False
    thinks_in_text: ClassVar[bool] = False

    @abstractmethod
    async def load(self, request: LoadRequest) -> LoadResult:
        """Check the credentials with a call that costs nothing and read the model list.

        Raises: ProviderError. Cancelling it is safe.
        """

    @abstractmethod
    async def models(self) -> Sequence[ModelInfo]:
        """Read the model list again. Raises: ProviderError. Cancelling it is safe."""

    @abstractmethod
    def generate(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """Yield the text as it comes, then one `Finish`. Never hold text back to make a list of it.

        An async generator; it always streams from the provider. Ending without a `Finish` means that the
        answer was cut off. Cancelling it, or closing it early, must close the connection to the provider.
        Raises: ProviderError.
        """

    async def close(self) -> None:  # noqa: B027 - most providers have nothing to free
        """Free what this object holds; called once, when nobody uses it any more."""
