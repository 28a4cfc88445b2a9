"""What a session asks its server to do, and the tickets by which the two speak of a running request."""

from collections.abc import Sequence
from io import StringIO
from typing import TypeAlias, final

import msgspec

from waifu_client.protocol import AnyReply, ErrorCode, RequestId
from waifu_llm.supervision.jobs import Job, Loaded, LoadFields


class Ticket(msgspec.Struct, eq=False):
    """A running request. The session alone changes it; others hand it back with what became of the request.

    Ids may be used again after a terminal message, tickets are not: what comes late finds its own ticket done.
    Times are on the session's clock, in seconds.
    """

    request_id: RequestId
    provider: str
    started: float
    done: bool = False


class LoadTicket(Ticket, eq=False):
    """`order` counts the connection's loads, `progress` says whether the client wants to hear of it."""

    order: int = 0
    progress: bool = False
    timeout_s: float | None = None


class GenerationTicket(Ticket, eq=False):
    """What a generation has given so far; `text` collects it where it is not streamed, `size` are its bytes."""

    timeout_s: float | None = None
    last_text: float = 0.0
    chunks: int = 0
    first_chunk_s: float | None = None
    total_s: float = 0.0
    text: StringIO | None = None
    size: int = 0

    @property
    def stream(self) -> bool:
        """Whether its text leaves as it comes."""
        return self.text is None


class ModelsTicket(Ticket, eq=False):
    """A model list that is being read."""


class UnloadTicket(Ticket, eq=False):
    """Workers that are being stopped."""


@final
class Send(msgspec.Struct, frozen=True):
    """A reply is due."""

    reply: AnyReply


@final
class SendText(msgspec.Struct, frozen=True):
    """Pieces of a stream's text are due, a message each."""

    ticket: GenerationTicket
    texts: Sequence[str]


@final
class SetTimer(msgspec.Struct, frozen=True):
    """Call `timer_expired` at that time of the clock, unless the ticket is finished before."""

    ticket: LoadTicket | GenerationTicket
    at: float


class StartLoad(msgspec.Struct, frozen=True):
    """Answered by `load_progress`, then `load_succeeded` or `failed`."""

    ticket: LoadTicket
    fields: LoadFields


@final
class StartGeneration(msgspec.Struct, frozen=True):
    """Answered by `chunks`, then `generation_ended` (`failed` where the pool does not take it)."""

    ticket: GenerationTicket
    loaded: Loaded
    job: Job


class ReadModels(msgspec.Struct, frozen=True):
    """Answered by `models_read` or `failed`."""

    ticket: ModelsTicket
    loaded: Loaded


class StartUnload(msgspec.Struct, frozen=True):
    """Answered by `unloaded` or `failed`."""

    ticket: UnloadTicket


class ReadProviders(msgspec.Struct, frozen=True):
    """Answered by `providers_read`, at once."""

    request_id: RequestId


class ReadStats(msgspec.Struct, frozen=True):
    """Answered at once."""

    request_id: RequestId


class InterruptEverybody(msgspec.Struct, frozen=True):
    """Call `interrupt_generations` of every session, then `everybody_interrupted` of the asker before the rest."""

    request_id: RequestId


@final
class Finished(msgspec.Struct, frozen=True):
    """The request is over and its timer off; with `cancel` its work ends as well, and nobody hears of it again."""

    ticket: Ticket
    code: ErrorCode
    cancel: bool


class StopModule(msgspec.Struct, frozen=True):
    """A client asked the module to stop."""


class Disconnect(msgspec.Struct, frozen=True):
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
