"""The messages between client and module, defined here and nowhere else.

Replies are structs that the module encodes and a client decodes; a client ignores what it does not know.
Requests are read by the module's own `read_request`, so that a wrong field can be answered in kind.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

PROTOCOL_VERSION: Final = 1
DEFAULT_PORT: Final = 7562
MAX_ID_LENGTH: Final = 256
MAX_INTEGER: Final = 2**53 - 1

RequestId: TypeAlias = str | int
Role: TypeAlias = Literal["system", "user", "assistant", "tool", "function"]

Milliseconds: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
PositiveCount: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Fraction: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
Penalty: TypeAlias = Annotated[float, msgspec.Meta(ge=-1000, le=1000)]
Seed: TypeAlias = Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]


class ErrorCode(StrEnum):
    """The codes there are; published clients hold them in an enum, so there will never be others."""

    SUCCESS = "SUCCESS"
    UNEXPECTED = "UNEXPECTED"
    AUTHORIZATION = "AUTHORIZATION"
    INVALID_PROMPT = "INVALID_PROMPT"
    INVALID_PROVIDER = "INVALID_PROVIDER"
    INVALID_MODEL = "INVALID_MODEL"
    TIMEOUT = "TIMEOUT"
    INTERRUPT = "INTERRUPT"


# Requests.


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation."""

    role: Role
    content: str
    name: str | None = None


class GenerateParams(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How to generate; lengths in tokens, times in milliseconds (0 or None: no limit)."""

    model_id: str
    character_name: str = "AI"
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 1.0
    max_output_length: PositiveCount = 200
    stop_tokens: list[str | Count] | None = None
    timeout_ms: Milliseconds | None = 60_000
    top_p: Fraction | None = None
    top_k: Count | None = None
    min_p: Fraction | None = None
    repeat_penalty: Penalty | None = None
    repeat_last_n: Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Seed | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """What all requests have: an id that is unique among the connection's running requests."""

    unique_request_id: RequestId


class Load(Request, frozen=True, kw_only=True, tag="load"):
    """Load a provider. `fields`: everything provider-specific, such as `base_url` (flattened on the wire)."""

    provider: str
    api_key: str | None = None
    preload_model_id: str | None = None
    timeout_ms: Milliseconds | None = None
    progress: bool = False
    fields: dict[str, object] = {}

    def __repr__(self) -> str:
        return f"Load(unique_request_id={self.unique_request_id!r}, provider={self.provider!r})"


class Generate(Request, frozen=True, kw_only=True, tag="generate"):
    """Generate from `messages`, or from the raw text `prompt`."""

    params: GenerateParams
    messages: list[Message] = []
    prompt: str | None = None
    stream: bool = False
    provider: str | None = None


class Interrupt(Request, frozen=True, kw_only=True, tag="interrupt"):
    """Stop generations: the connection's own, one target, or with scope "all" everybody's."""

    target_request_id: RequestId | None = None
    scope: str | None = None


class Close(Request, frozen=True, kw_only=True, tag="close"):
    """Stop the module."""


class GetProviders(Request, frozen=True, kw_only=True, tag="get_providers"):
    """Ask which providers there are."""


class GetModels(Request, frozen=True, kw_only=True, tag="get_models"):
    """Ask which models a loaded provider has."""

    provider: str | None = None


class Unload(Request, frozen=True, kw_only=True, tag="unload"):
    """Stop a provider's workers."""

    provider: str


class GetStats(Request, frozen=True, kw_only=True, tag="get_stats"):
    """Ask what runs and how it fares."""


AnyRequest: TypeAlias = Load | Generate | Interrupt | Close | GetProviders | GetModels | Unload | GetStats


# Replies. Fields without a default are always sent; UNSET ones only where they are known.


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """What all replies have."""

    unique_request_id: RequestId


class Outcome(Reply, frozen=True, kw_only=True):
    """What all terminal messages that can fail have."""

    is_error: bool
    error: ErrorCode
    message: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    retry_after_ms: int | UnsetType = UNSET


class Usage(msgspec.Struct, frozen=True):
    """Token counts as the provider gave them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class LoadAck(Reply, frozen=True, kw_only=True, tag="load_ack"):
    """The load was read."""

    provider: str


class LoadProgress(Reply, frozen=True, kw_only=True, tag="load_progress"):
    """How far a load is; only where it asked. `stage`: environment, worker, provider, model."""

    stage: str
    detail: str
    fraction: float | None


class LoadDone(Outcome, frozen=True, kw_only=True, tag="load_done"):
    """The load's terminal message."""

    provider: str
    warning: str | UnsetType = UNSET


class GenerateAck(Reply, frozen=True, kw_only=True, tag="generate_ack"):
    """The generation was read; its timeout runs from here."""


class GenerateDone(Outcome, frozen=True, kw_only=True, tag="generate_done"):
    """The terminal message of a generation that was not streamed."""

    response: str
    usage: Usage | UnsetType = UNSET
    finish_reason: str | UnsetType = UNSET
    ignored: list[str] | UnsetType = UNSET


class GenerateStreamChunk(Reply, frozen=True, kw_only=True, tag="generate_stream_chunk"):
    """A piece of text, never empty."""

    chunk: str


class GenerateStreamDone(Outcome, frozen=True, kw_only=True, tag="generate_stream_done"):
    """The terminal message of a streamed generation."""

    usage: Usage | UnsetType = UNSET
    finish_reason: str | UnsetType = UNSET
    ignored: list[str] | UnsetType = UNSET


class InterruptAck(Reply, frozen=True, kw_only=True, tag="interrupt_ack"):
    """The terminal message of an interrupt; what it stopped ends right after it."""

    interrupted: list[RequestId]


class CloseAck(Reply, frozen=True, kw_only=True, tag="close_ack"):
    """The module stops."""


class OptionDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """One load option of a provider. `type`: string, url, host, integer, number, boolean or list."""

    type: str
    help: str
    default: object = None
    choices: list[str] | UnsetType = UNSET


class ProviderDetails(msgspec.Struct, frozen=True):
    """What a program can show about a provider before loading it. `size_bytes`: about what it downloads."""

    title: str
    description: str
    homepage: str
    category: str
    installed: bool
    running: bool
    needs_api_key: bool
    has_api_key: bool
    abilities: list[str]
    options: dict[str, OptionDetails]
    default_model: str | None = None
    author: str = ""
    version: str = ""
    size_bytes: int = 0


class GetProvidersDone(Reply, frozen=True, kw_only=True, tag="get_providers_done"):
    """All providers there are, installed or not, sorted."""

    providers: list[str]
    details: dict[str, ProviderDetails] | UnsetType = UNSET
    protocol_version: int | UnsetType = UNSET


class ModelDetails(msgspec.Struct, frozen=True):
    """What is known of a model; null where it is not. `context` in tokens."""

    kind: str | None = None
    owner: str | None = None
    size_bytes: int | None = None
    context: int | None = None


class GetModelsDone(Outcome, frozen=True, kw_only=True, tag="get_models_done"):
    """The model ids twice: the written protocol says `providers`, the published client reads `models`."""

    models: list[str]
    providers: list[str]
    warning: str | UnsetType = UNSET
    details: dict[str, ModelDetails] | UnsetType = UNSET


class UnloadDone(Outcome, frozen=True, kw_only=True, tag="unload_done"):
    """The provider's workers are stopped."""

    provider: str


class WorkerStats(msgspec.Struct, frozen=True):
    """One worker or gateway. Memory in bytes: the process and its children when weighed last. Uptime in seconds.

    `kind`: worker or gateway; `address`: where a gateway listens, None for a worker and for one that is not ready;
    `memory_limit_bytes`: what it may use at most, None where there is no limit, as for gateways.
    """

    provider: str
    state: str
    pid: int | None
    memory_bytes: int | None
    running: int
    queued: int
    uptime_s: float | None
    restarts: int
    kind: str = "worker"
    address: str | None = None
    memory_limit_bytes: int | None = None


class EnvironmentStats(msgspec.Struct, frozen=True):
    """One environment. `state`: missing, stale, broken or ready."""

    name: str
    state: str


class Histogram(msgspec.Struct, frozen=True):
    """Counts per bucket; `bounds_ms` are the upper bounds, the last count is what lies above them."""

    bounds_ms: list[float]
    counts: list[int]


class ProviderCounters(msgspec.Struct, frozen=True):
    """What one provider has done since the module started."""

    requests: dict[str, int]
    chunks: int
    restarts: int
    builds: int
    queued: int
    first_chunk_ms: Histogram
    total_ms: Histogram


class GetStatsDone(Outcome, frozen=True, kw_only=True, tag="get_stats_done"):
    """What runs, and the counters by provider."""

    workers: list[WorkerStats]
    environments: list[EnvironmentStats]
    connections: int
    counters: dict[str, ProviderCounters]


class ErrorReply(Outcome, frozen=True, kw_only=True, tag="error"):
    """The answer to what cannot be answered in kind; the id is "" where none could be read."""


AnyReply: TypeAlias = (
    LoadAck
    | LoadProgress
    | LoadDone
    | GenerateAck
    | GenerateDone
    | GenerateStreamChunk
    | GenerateStreamDone
    | InterruptAck
    | CloseAck
    | GetProvidersDone
    | GetModelsDone
    | UnloadDone
    | GetStatsDone
    | ErrorReply
)

# `generate_streamed` stands in the published list; neither the first module nor we ever send it.
PUBLISHED_TYPES: Final = frozenset(
    (
        "generate generate_ack generate_done generate_streamed generate_stream_chunk generate_stream_done "
        "interrupt interrupt_ack close close_ack load load_ack load_done "
        "get_providers get_providers_done get_models get_models_done"
    ).split()
)

_encoder: Final = msgspec.json.Encoder()
_CHUNK_HEAD: Final = _encoder.encode(GenerateStreamChunk(unique_request_id=0, chunk="")).removesuffix(b'0,"chunk":""}')
_reply_decoder: Final[msgspec.json.Decoder[AnyReply]] = msgspec.json.Decoder(AnyReply)


encode_reply: Final[Callable[[AnyReply], bytes]] = _encoder.encode
"""One reply as UTF-8 JSON."""


def encode_chunks(request_id: RequestId, texts: Sequence[str]) -> list[bytes]:
    """What `encode_reply` makes of a `GenerateStreamChunk` for each of these texts."""
    encode, join = _encoder.encode, b"".join
    head = join((_CHUNK_HEAD, encode(request_id), b',"chunk":'))
    return [join((head, encode(text), b"}")) for text in texts]


def decode_reply(data: bytes | str) -> AnyReply:
    """One reply. Raises: msgspec.DecodeError, UnicodeDecodeError."""
    return _reply_decoder.decode(data)


def encode_request(request: AnyRequest) -> bytes:
    """One request as UTF-8 JSON, a load's `fields` beside its own."""
    if isinstance(request, Load) and request.fields:
        flat = msgspec.to_builtins(request)
        flat = {**flat.pop("fields"), **flat}
        return _encoder.encode(flat)
    return _encoder.encode(request)
