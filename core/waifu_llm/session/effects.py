"""What a session asks its server to do, and the tickets by which the two speak of a running request."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import TypeAlias

from waifu_client.protocol import AnyReply, ErrorCode, RequestId
from waifu_llm.supervision.jobs import Job, Loaded, LoadFields


@dataclass(slots=True, eq=False)
class Ticket:
    """A running request. The session alone changes it; others hand it back with what became of the request.

    Ids may be used again after a terminal message, tickets are not: what comes late finds its own ticket done.
    Times are on the session's clock, in seconds.
    """

    request_id: RequestId
    provider: str
    started: float
    done: bool = False


@dataclass(slots=True, eq=False)
class LoadTicket(Ticket):
    """`order` counts the connection's loads, `progress` says whether the client wants to hear of it."""

    order: int = 0
    progress: bool = False
    timeout_s: float | None = None


@dataclass(slots=True, eq=False)
class GenerationTicket(Ticket):
    """What a generation has given so far; `text` collects it where it is not streamed, `size` are its bytes."""

    stream: bool = False
    timeout_s: float | None = None
    last_text: float = 0.0
    chunks: int = 0
    first_chunk_s: float | None = None
    total_s: float = 0.0
    text: StringIO = field(default_factory=StringIO)
    size: int = 0


@dataclass(slots=True, eq=False)
class ModelsTicket(Ticket):
    """A model list that is being read."""


@dataclass(slots=True, eq=False)
class UnloadTicket(Ticket):
    """Workers that are being stopped."""


@dataclass(frozen=True, slots=True)
class Send:
    """A reply is due."""

    reply: AnyReply


@dataclass(frozen=True, slots=True)
class SendText:
    """Pieces of a stream's text are due, a message each."""

    ticket: GenerationTicket
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Call `timer_expired` at that time of the clock, unless the ticket is finished before."""

    ticket: LoadTicket | GenerationTicket
    at: float


@dataclass(frozen=True, slots=True)
class StartLoad:
    """Answered by `load_progress`, then `load_succeeded` or `failed`."""

    ticket: LoadTicket
    fields: LoadFields


@dataclass(frozen=True, slots=True)
class StartGeneration:
    """Answered by `chunks`, then `generation_ended` (`failed` where the pool does not take it)."""

    ticket: GenerationTicket
    loaded: Loaded
    job: Job


@dataclass(frozen=True, slots=True)
class ReadModels:
    """Answered by `models_read` or `failed`."""

    ticket: ModelsTicket
    loaded: Loaded


@dataclass(frozen=True, slots=True)
class StartUnload:
    """Answered by `unloaded` or `failed`."""

    ticket: UnloadTicket


@dataclass(frozen=True, slots=True)
class ReadProviders:
    """Answered by `providers_read`, at once."""

    request_id: RequestId


@dataclass(frozen=True, slots=True)
class ReadStats:
    """Answered at once."""

    request_id: RequestId


@dataclass(frozen=True, slots=True)
class InterruptEverybody:
    """Call `interrupt_generations` of every session, then `everybody_interrupted` of the asker before the rest."""

    request_id: RequestId


@dataclass(frozen=True, slots=True)
class Finished:
    """The request is over and its timer off; with `cancel` its work ends as well, and nobody hears of it again."""

    ticket: Ticket
    code: ErrorCode
    cancel: bool


@dataclass(frozen=True, slots=True)
class StopModule:
    """A client asked the module to stop."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """End this connection with a close code, after what waits to be written."""

    code: int
    reason: str


Effect: TypeAlias = (
    Send
    | SendText
    | SetTimer
    | StartLoad
    | StartGeneration
    | ReadModels
    | StartUnload
    | ReadProviders
    | ReadStats
    | InterruptEverybody
    | Finished
    | StopModule
    | Disconnect
)
