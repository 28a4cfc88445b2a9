"""One connection: reads frames into its session, carries out the effects, writes what its outbox holds.

It decides nothing about replies. All its tasks end with it, so nothing of it outlives the socket.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Final, Protocol, assert_never

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from waifu_client.protocol import ErrorCode, GetStatsDone, ProviderDetails, RequestId
from waifu_llm.config import LimitSettings
from waifu_llm.errors import Failure, ModuleError, Reason, failure_of
from waifu_llm.server.content import logged
from waifu_llm.server.writer import Writer
from waifu_llm.session import Session
from waifu_llm.session.effects import (
    Disconnect,
    Effect,
    Finished,
    GenerationTicket,
    InterruptEverybody,
    LoadTicket,
    ModelsTicket,
    ReadModels,
    ReadProviders,
    ReadStats,
    Send,
    SendText,
    SetTimer,
    StartGeneration,
    StartLoad,
    StartUnload,
    StopModule,
    Ticket,
    UnloadTicket,
)
from waifu_llm.stats import Statistics
from waifu_llm.supervision.jobs import Ending, Generation, LoadProgress, PoolInterface, Sink

# Published clients give up on a model list after 1 s; the pool answers within 0.8 s, this only guards the promise.
MODELS_S: Final = 0.95
_LATE: Final = Failure(ErrorCode.TIMEOUT, "the model list did not come in time; ask again", Reason.PROVIDER_TIMEOUT)
# A client that sends without pause must not keep the loop from the others, nor ask faster than a turn of the loop hears
# answers (`channel.LINES_PER_TURN`): all its requests would lie in memory at once, which collections of garbage walk.
_READ_IN_ONE_GO: Final = 8
_READ_FOR_S: Final = 0.002
_TOO_BIG: Final = 1009

_log = logging.getLogger(__name__)


class Owner(Protocol):
    """What a connection needs of the server."""

    @property
    def pool(self) -> PoolInterface:
        """Who works."""

    @property
    def statistics(self) -> Statistics:
        """Who counts."""

    @property
    def log_content(self) -> bool:
        """Whether prompts and answers may be in the log."""

    def request_stop(self) -> None:
        """A client asked the module to stop."""

    def interrupt_everybody(self, asker: "Connection", request_id: RequestId) -> None:
        """Stop all generations of all connections, the asker's acknowledgement first."""

    def providers(self) -> Mapping[str, ProviderDetails]:
        """Every worker there is."""

    def stats_for(self, request_id: RequestId) -> GetStatsDone:
        """What runs and how it fares."""

    def left(self, connection: "Connection") -> None:
        """It has ended."""


class _Sink:
    """Where the pool puts a generation's text: the path of every chunk.

    Nothing is raised into the pool, where other requests of the same worker would lose what came with this one's text.
    """

    __slots__ = ("_connection", "_ticket")

    def __init__(self, connection: "Connection", ticket: GenerationTicket) -> None:
        self._connection = connection
        self._ticket = ticket

    def chunks(self, texts: Sequence[str]) -> None:
        connection, ticket = self._connection, self._ticket
        was_done = ticket.done
        try:
            effects = connection.session.chunks(ticket, texts)
            if not ticket.done:
                connection.perform(effects)
            elif not was_done:
                # Not from inside the pool, which is told to cancel.
                asyncio.get_running_loop().call_soon(connection.perform, effects)
        except Exception as error:
            connection.generation_broke(ticket, error)

    def ended(self, ending: Ending) -> None:
        connection, ticket = self._connection, self._ticket
        try:
            connection.perform(connection.session.generation_ended(ticket, ending))
        except Exception as error:
            connection.generation_broke(ticket, error)


class Connection:
    """A client's connection; `run` is its whole life."""

    __slots__ = (
        "_generations", "_limits", "_loop", "_owner", "_socket", "_tasks", "_timers", "_writer", "of_gateway",
        "session",
    )  # fmt: skip

    def __init__(
        self, socket: ServerConnection, session: Session, owner: Owner, limits: LimitSettings, *, of_gateway: bool
    ) -> None:
        self.session = session
        self.of_gateway = of_gateway
        self._socket = socket
        self._owner = owner
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(socket, limits, owner.pool.afterwards, self._client_gone)
        self._timers: dict[Ticket, asyncio.TimerHandle] = {}
        self._generations: dict[Ticket, Generation] = {}
        self._tasks: dict[Ticket, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Read until the socket closes; then everything that the client was running ends.

        Cancelling it is safe: it cuts the socket.
        """
        count, busy_s = 0, 0.0
        try:
            while True:
                data = await self._socket.recv()
                begun = self._loop.time()
                # While the socket is being closed it is read on, or the client's own close frame would not be seen.
                if not self._writer.ending:
                    self._receive(data)
                count += 1
                busy_s += self._loop.time() - begun
                if count >= _READ_IN_ONE_GO or busy_s >= _READ_FOR_S:
                    count, busy_s = 0, 0.0
                    await asyncio.sleep(0)
        except ConnectionClosed:
            pass
        finally:
            await self._end()

    async def _end(self) -> None:
        try:
            self._client_gone()
            await self._writer.close()
            if self._tasks:
                await asyncio.wait(self._tasks.values())
        finally:
            self._owner.pool.release(self)
            self._owner.left(self)

    def _client_gone(self) -> None:
        self.perform(self.session.disconnected())

    def end(self, code: int, reason: str) -> None:
        """Close the socket once everything that waits is written; the first code given stands."""
        self._writer.end(code, reason)

    def cut(self) -> None:
        """End the socket now."""
        self._writer.cut()

    def perform(self, effects: list[Effect]) -> None:
        """Carry out a session's effects, in their order."""
        for effect in effects:
            # What every generation has goes by its exact type: `match` would call one class after the other to ask it.
            if type(effect) is SendText:
                self._writer.put_chunks(effect.ticket, effect.ticket.request_id, effect.texts)
            elif type(effect) is Send:
                self._writer.put(effect.reply)
            elif type(effect) is Finished:
                self._finished(effect)
            elif type(effect) is SetTimer:
                self._timers[effect.ticket] = self._loop.call_at(effect.at, self._timer_expired, effect.ticket)
            elif type(effect) is StartGeneration:
                # Before the acknowledgement is written: the worker has its job while that is done.
                self._generate(effect)
            else:
                self._perform_rare(effect)

    def _perform_rare(
        self,
        effect: StartLoad
        | ReadModels
        | StartUnload
        | ReadProviders
        | ReadStats
        | InterruptEverybody
        | StopModule
        | Disconnect,
    ) -> None:
        match effect:
            case StartLoad(ticket):
                self._run_task(ticket, self._load(effect))
            case ReadModels(ticket):
                self._run_task(ticket, self._read_models(effect))
            case StartUnload(ticket):
                self._run_task(ticket, self._unload(ticket))
            case ReadProviders(request_id):
                self._answer_now(request_id, lambda: self.session.providers_read(request_id, self._owner.providers()))
            case ReadStats(request_id):
                self._answer_now(request_id, lambda: [Send(self._owner.stats_for(request_id))])
            case InterruptEverybody(request_id):
                self._owner.interrupt_everybody(self, request_id)
            case StopModule():
                self._owner.request_stop()
            case Disconnect(code, reason):
                self.end(code, reason)
            case _:
                assert_never(effect)

    def generation_broke(self, ticket: GenerationTicket, error: Exception) -> None:
        """A bug of ours met a generation: it ends here, and at the pool."""
        failure = _failure(error)
        self._loop.call_soon(lambda: self.perform(self.session.broken(ticket, failure)))

    # Reading.

    def _receive(self, data: str | bytes) -> None:
        # A character has four bytes at most.
        if len(data) * 4 > self._limits.message_bytes and _size(data) > self._limits.message_bytes:
            self._refuse_size()
        else:
            self.perform(self.session.receive(data))

    def _refuse_size(self) -> None:
        """Between once and twice the limit there is still an answer; above, the library closes by itself."""
        text = f"a message may have {self._limits.message_bytes} bytes; send less, or raise limits.message_bytes"
        self.perform(self.session.cannot_answer("", Failure(ErrorCode.UNEXPECTED, text)))
        self.perform(self.session.closing())
        self.end(_TOO_BIG, "message too big")

    # Work.

    def _generate(self, effect: StartGeneration) -> None:
        ticket = effect.ticket
        try:
            # A gateway speaks for many: each of its generations counts by itself.
            share = ticket if self.of_gateway else self
            sink: Sink = _Sink(self, ticket)
            if self._owner.log_content:
                sink = logged(sink, ticket.provider, effect.job)
            generation = self._owner.pool.generate(effect.loaded, effect.job, share, sink)
        except Exception as error:
            self.perform(self.session.failed(ticket, _failure(error)))
            return
        if not ticket.done:
            self._generations[ticket] = generation

    def _run_task(self, ticket: Ticket, work: Coroutine[None, None, None]) -> None:
        self._tasks[ticket] = task = self._loop.create_task(work)
        task.add_done_callback(partial(self._task_done, ticket))

    def _task_done(self, ticket: Ticket, task: asyncio.Task[None]) -> None:
        del self._tasks[ticket]
        if not task.cancelled() and (error := task.exception()) is not None:
            # It tells its client what goes wrong, so this went wrong while it did that.
            _log.error("an error inside the module", exc_info=error)
            self.cut()

    async def _load(self, effect: StartLoad) -> None:
        ticket = effect.ticket
        try:
            loaded = await self._owner.pool.load(effect.fields, self, lambda p: self._load_progress(ticket, p))
        except Exception as error:
            self.perform(self.session.failed(ticket, _failure(error)))
        else:
            self.perform(self.session.load_succeeded(ticket, loaded))

    def _load_progress(self, ticket: LoadTicket, progress: LoadProgress) -> None:
        reply = self.session.load_progress(ticket, progress)
        if reply is not None:
            self._writer.put(reply)

    async def _read_models(self, effect: ReadModels) -> None:
        ticket: ModelsTicket = effect.ticket
        try:
            async with asyncio.timeout(MODELS_S):
                models = await self._owner.pool.models(effect.loaded)
        except TimeoutError:
            self.perform(self.session.failed(ticket, _LATE))
        except Exception as error:
            self.perform(self.session.failed(ticket, _failure(error)))
        else:
            self.perform(self.session.models_read(ticket, models))

    async def _unload(self, ticket: UnloadTicket) -> None:
        try:
            await self._owner.pool.unload(ticket.provider)
        except Exception as error:
            self.perform(self.session.failed(ticket, _failure(error)))
        else:
            self.perform(self.session.unloaded(ticket))

    def _answer_now(self, request_id: RequestId, answer: Callable[[], list[Effect]]) -> None:
        try:
            effects = answer()
        except Exception as error:
            effects = self.session.cannot_answer(request_id, _failure(error))
        self.perform(effects)

    def _timer_expired(self, ticket: LoadTicket | GenerationTicket) -> None:
        del self._timers[ticket]
        self.perform(self.session.timer_expired(ticket))

    def _finished(self, effect: Finished) -> None:
        ticket = effect.ticket
        timer = self._timers.pop(ticket, None)
        if timer is not None:
            timer.cancel()
        if isinstance(ticket, GenerationTicket):
            self._owner.statistics.finished(
                ticket.provider, effect.code, ticket.chunks, ticket.first_chunk_s, ticket.total_s
            )
        generation, task = self._generations.pop(ticket, None), self._tasks.get(ticket)
        if effect.cancel and generation is not None:
            self._owner.pool.cancel(generation)
        if effect.cancel and task is not None:
            task.cancel()


def _size(data: str | bytes) -> int:
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())


def _failure(error: Exception) -> Failure:
    """What a client is told; what is not ours is a bug and goes to the log with its trace."""
    if not isinstance(error, ModuleError):
        _log.error("an error inside the module", exc_info=error)
    return failure_of(error)
