"""What calls give back: the protocol's replies without what only the wire needs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

from msgspec import UnsetType

from waifu_client.protocol import (
    GenerateDone,
    GetModelsDone,
    GetProvidersDone,
    LoadDone,
    ModelDetails,
    ProviderDetails,
    Usage,
)

T = TypeVar("T")


def known(value: T | UnsetType) -> T | None:
    """A field that the module may leave out."""
    return None if isinstance(value, UnsetType) else value


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `ignored`: the parameters that the provider does not have."""

    text: str
    usage: Usage | None = None
    finish_reason: str | None = None
    ignored: tuple[str, ...] = ()

    @classmethod
    def of(cls, done: GenerateDone) -> Self:
        """From the terminal message."""
        return cls(done.response, known(done.usage), known(done.finish_reason), tuple(known(done.ignored) or ()))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A load that succeeded, and what the provider said beside it."""

    provider: str
    warning: str | None = None

    @classmethod
    def of(cls, done: LoadDone) -> Self:
        """From the terminal message."""
        return cls(done.provider, known(done.warning))


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a provider; `details` by id, where known; `warning` where the list could not be read."""

    ids: tuple[str, ...]
    details: Mapping[str, ModelDetails]
    warning: str | None = None

    @classmethod
    def of(cls, done: GetModelsDone) -> Self:
        """From the terminal message."""
        return cls(tuple(done.models), known(done.details) or {}, known(done.warning))


@dataclass(frozen=True, slots=True)
class Providers:
    """The providers there are; `details` by name."""

    names: tuple[str, ...]
    details: Mapping[str, ProviderDetails]

    @classmethod
    def of(cls, done: GetProvidersDone) -> Self:
        """From the terminal message."""
        return cls(tuple(done.providers), known(done.details) or {})
