"""The messages between core and worker, and between core and gateway, defined here and nowhere else.

One JSON object per line, at most `MAX_LINE_BYTES` long. Both ends come from the same release, so unknown
fields are refused; `Ready.wire` guards against a mix of releases.
"""

from enum import StrEnum
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

WIRE_VERSION: Final = 2
MAGIC: Final = "waifu-llm"
MAX_LINE_BYTES: Final = 16 * 1024 * 1024
BEAT_INTERVAL_S: Final = 5.0

OptionValue: TypeAlias = str | int | float | bool | list[str] | None


class Code(StrEnum):
    """The eight outward outcomes; a worker names its failures with these and no others."""

    SUCCESS = "SUCCESS"
    UNEXPECTED = "UNEXPECTED"
    AUTHORIZATION = "AUTHORIZATION"
    INVALID_PROMPT = "INVALID_PROMPT"
    INVALID_PROVIDER = "INVALID_PROVIDER"
    INVALID_MODEL = "INVALID_MODEL"
    TIMEOUT = "TIMEOUT"
    INTERRUPT = "INTERRUPT"


class _Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all parts of a message have in common."""


class ChatMessage(_Shape, frozen=True, kw_only=True):
    """One turn of a conversation. `role`: system, user, assistant, tool or function."""

    role: str
    content: str
    name: str | None = None


class Params(_Shape, frozen=True, kw_only=True):
    """How to generate. Lengths are in tokens; None means that the client did not say."""

    model_id: str
    character_name: str = "AI"
    temperature: float = 1.0
    max_output_length: int = 200
    stops: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None


class Usage(_Shape, frozen=True, kw_only=True):
    """Token counts as the provider gave them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ModelInfo(_Shape, frozen=True, kw_only=True):
    """One model of a provider. `kind`: chat, text or what the provider calls it; `context` in tokens."""

    id: str
    kind: str | None = None
    owner: str | None = None
    size_bytes: int | None = None
    context: int | None = None


class _Message(_Shape, frozen=True, tag_field="type", tag=str.lower):
    """A line of the wire; the tag is the class name in lower case."""


# Core to worker.


class Load(_Message, frozen=True, kw_only=True):
    """Make the context `ctx` ready: check the credentials, read the model list, preload where asked."""

    id: int
    ctx: int
    api_key: str | None = None
    options: dict[str, OptionValue] = {}
    preload_model_id: str | None = None

    def __repr__(self) -> str:
        return f"Load(id={self.id}, ctx={self.ctx}, options={sorted(self.options)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """As little for those who show values with `rich`, which does not ask for the text above."""
        return [("options", sorted(self.options))]


class Models(_Message, frozen=True, kw_only=True):
    """Read the model list again."""

    id: int
    ctx: int


class Generate(_Message, frozen=True, kw_only=True):
    """Generate from `messages`, or from the text `prompt`. `stream` false: one chunk at the end will do."""

    id: int
    ctx: int
    params: Params
    messages: tuple[ChatMessage, ...] = ()
    prompt: str | None = None
    stream: bool = False
    time_left_ms: int | None = None


class Cancel(_Message, frozen=True, kw_only=True):
    """End the request `id`; an id that is not running is ignored."""

    id: int


class Unload(_Message, frozen=True, kw_only=True):
    """Forget the context `ctx`; nobody holds it any more."""

    ctx: int


# Worker to core.


class Ready(_Message, frozen=True, kw_only=True):
    """The first line: the provider is imported and can be loaded."""

    magic: str
    wire: int
    name: str
    abilities: tuple[str, ...] = ()


class Progress(_Message, frozen=True, kw_only=True):
    """How far a load is. `stage`: provider or model; `fraction` 0..1, or None where it is not known."""

    id: int
    stage: str
    detail: str = ""
    fraction: float | None = None


class Chunk(_Message, frozen=True, kw_only=True):
    """Pieces of answer text that came together, in order; at least one, none of them empty."""

    id: int
    texts: Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1)]


class Done(_Message, frozen=True, kw_only=True):
    """The one good end of a load (`models`, `warning`), a model list, or a generation (the rest)."""

    id: int
    models: tuple[ModelInfo, ...] | None = None
    usage: Usage | None = None
    finish_reason: str | None = None
    ignored: tuple[str, ...] = ()
    warning: str | None = None


class Failed(_Message, frozen=True, kw_only=True):
    """The one bad end of a request; a cancelled one ends with `INTERRUPT`."""

    id: int
    error: Code
    message: str
    reason: str | None = None
    retry_after_ms: int | None = None
    http_status: int | None = None
    provider_code: str | None = None


class Beat(_Message, frozen=True, kw_only=True):
    """Sent every `BEAT_INTERVAL_S` by the thread that watches the input: the interpreter still runs."""


# Core to gateway, and back.


class Start(_Message, frozen=True, kw_only=True):
    """The only line a gateway gets: the module's address and a token made for this run, its options, its folder."""

    url: str
    token: str
    settings: dict[str, OptionValue]
    data_dir: str
    log_level: str

    def __repr__(self) -> str:
        return f"Start(url={self.url!r}, settings={sorted(self.settings)}, data_dir={self.data_dir!r})"


class GatewayReady(_Message, frozen=True, kw_only=True, tag="ready"):
    """It listens, at `address`, as users open it."""

    magic: str
    wire: int
    name: str
    address: str


class GatewayFailed(_Message, frozen=True, kw_only=True, tag="failed"):
    """It cannot serve; `message` is one sentence that says what to do."""

    message: str


ToGateway: TypeAlias = Start
FromGateway: TypeAlias = GatewayReady | GatewayFailed | Beat
ToWorker: TypeAlias = Load | Models | Generate | Cancel | Unload
FromWorker: TypeAlias = Ready | Progress | Chunk | Done | Failed | Beat
