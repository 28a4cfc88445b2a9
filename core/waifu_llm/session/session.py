"""One client's state: a message in, effects out. The one place that decides whether a reply is due.

The server carries effects out in their order and reports what comes of them. A running request is a ticket;
`_finish` takes it off exactly once, and whoever comes second finds it done: completion, timeout, interrupt, close
and disconnect may race in any order.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import StringIO
from typing import Final, TypeAlias, assert_never

from waifu_client import protocol
from waifu_client.protocol import AnyReply, ErrorCode, RequestId
from waifu_llm.config import LimitSettings
from waifu_llm.errors import Busy, Closing, Failure, ModuleError, Reason, TimedOut, UnknownProvider, quoted
from waifu_llm.redaction import Redactor
from waifu_llm.requests import Refused, Unreadable, read_request
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
from waifu_llm.session.replies import Replies
from waifu_llm.session.work import job_of, seconds_of
from waifu_llm.supervision.jobs import Ending, Loaded, LoadFields, LoadProgress, ModelList

# Loads, unloads and model lists that one connection may have under way: each costs a task.
_MOST_ERRANDS: Final = 1024
_NORMAL_CLOSURE: Final = 1000
_CLOSING: Final = Closing("the module is stopping; connect again when it is back").failure()
_INTERRUPTED: Final = Failure(ErrorCode.INTERRUPT, "interrupted on a client's request")
_DUPLICATE: Final = Failure(ErrorCode.UNEXPECTED, "a request with this unique_request_id is still running")

_Other: TypeAlias = (
    protocol.Load
    | protocol.Interrupt
    | protocol.Close
    | protocol.GetProviders
    | protocol.GetModels
    | protocol.Unload
    | protocol.GetStats
)


class Session:
    """What one connection loaded and what it is running.

    `shared` gives the load that a connection without one of its own uses, None where clients are isolated.
    `remote_close` says whether this client's `close` stops the module. `clock` is monotonic, in seconds.
    `limits` are those of one client; `limited` is false for a gateway, which asks for many.
    """

    __slots__ = (
        "_clock", "_closing", "_errands", "_limited", "_limits", "_load_count", "_loads", "_remote_close", "_replies",
        "_running", "_shared",
    )  # fmt: skip

    def __init__(
        self,
        *,
        shared: Callable[[], Loaded | None],
        redactor: Redactor,
        clock: Callable[[], float],
        remote_close: bool = True,
        limits: LimitSettings | None = None,
        limited: bool = True,
    ) -> None:
        self._shared = shared
        self._replies = Replies(redactor)
        self._clock = clock
        self._remote_close = remote_close
        self._limits = limits or LimitSettings()
        self._limited = limited
        self._running: dict[RequestId, Ticket] = {}
        self._errands = 0
        self._load_count = 0
        # By provider, each with the order of its request: the newest is the last.
        self._loads: dict[str, tuple[int, Loaded]] = {}
        self._closing = False

    # A message in.

    def receive(self, data: str | bytes) -> list[Effect]:
        """What one frame calls for; never raises, whatever is in it."""
        reading = read_request(data)
        request_id = reading.unique_request_id
        if request_id in self._running and not isinstance(reading, Unreadable):
            return self.cannot_answer(request_id, _DUPLICATE)
        match reading:
            case protocol.Generate():
                return self._generate(reading, sys.getsizeof(data))
            case Unreadable():
                return self.cannot_answer(request_id, Failure(ErrorCode.UNEXPECTED, reading.message))
            case Refused():
                return self._refuse(reading)
            case _:
                return self._accept(reading)

    def _refuse(self, refused: Refused) -> list[Effect]:
        request_id, failure = refused.unique_request_id, Failure(refused.code, refused.message)
        replies: list[AnyReply]
        match refused.type:
            case "load":
                ack = protocol.LoadAck(unique_request_id=request_id, provider=refused.provider)
                replies = [ack, self._replies.load_done(request_id, refused.provider, failure)]
            case "generate":
                done = self._replies.generation_failed(request_id, refused.stream, failure)
                replies = [protocol.GenerateAck(unique_request_id=request_id), done]
            case "interrupt":
                replies = [protocol.InterruptAck(unique_request_id=request_id, interrupted=[])]
            case "get_models":
                replies = [self._replies.models_done(request_id, failure)]
            case _:
                replies = [self._replies.unload_done(request_id, refused.provider, failure)]
        return [Send(reply) for reply in replies]

    def _accept(self, request: _Other) -> list[Effect]:
        match request:
            case protocol.Load():
                return self._load(request)
            case protocol.Interrupt():
                return self._interrupt(request)
            case protocol.GetModels():
                return self._get_models(request)
            case protocol.Unload():
                ticket = UnloadTicket(request.unique_request_id, request.provider, self._clock())
                return self._errand(ticket, lambda: [StartUnload(ticket)])
            case protocol.Close():
                return self._close(request)
            case protocol.GetProviders():
                return [ReadProviders(request.unique_request_id)]
            case protocol.GetStats():
                return [ReadStats(request.unique_request_id)]
        assert_never(request)

    def _load(self, request: protocol.Load) -> list[Effect]:
        self._load_count += 1
        ticket = LoadTicket(
            request.unique_request_id,
            request.provider,
            self._clock(),
            order=self._load_count,
            progress=request.progress,
            timeout_s=seconds_of(request.timeout_ms),
        )
        fields = LoadFields(request.provider, request.api_key, request.preload_model_id, request.fields)
        ack = Send(protocol.LoadAck(unique_request_id=ticket.request_id, provider=request.provider))
        # Begun before it is acknowledged, what is loaded already is told in the same write.
        timers = [] if ticket.timeout_s is None else [SetTimer(ticket, ticket.started + ticket.timeout_s)]
        begun = self._errand(ticket, lambda: [*timers, StartLoad(ticket, fields), ack])
        return begun if ack in begun else [ack, *begun]

    def _generate(self, request: protocol.Generate, size: int) -> list[Effect]:
        now = self._clock()
        request_id = request.unique_request_id
        ack = Send(protocol.GenerateAck(unique_request_id=request_id))
        try:
            loaded = self._choose(request.provider)
            if self._limited and len(self._running) >= self._limits.requests:
                raise _too_many(self._limits.requests)
        except ModuleError as error:
            return [ack, Send(self._replies.generation_failed(request_id, request.stream, error.failure()))]
        timeout_s = seconds_of(request.params.timeout_ms)
        text = None if request.stream else StringIO()
        ticket = GenerationTicket(request_id, loaded.provider, now, timeout_s=timeout_s, last_text=now, text=text)
        self._running[request_id] = ticket
        effects: list[Effect] = [ack]
        deadline = None
        if timeout_s is not None:
            due = now + timeout_s
            effects.append(SetTimer(ticket, due))
            # A stream has no end in time that could be told beforehand: each piece of text starts its timeout again.
            deadline = None if request.stream else due
        effects.append(StartGeneration(ticket, loaded, job_of(request, deadline, size)))
        return effects

    def _get_models(self, request: protocol.GetModels) -> list[Effect]:
        try:
            loaded = self._choose(request.provider)
        except ModuleError as error:
            return [Send(self._replies.models_done(request.unique_request_id, error.failure()))]
        ticket = ModelsTicket(request.unique_request_id, loaded.provider, self._clock())
        return self._errand(ticket, lambda: [ReadModels(ticket, loaded)])

    def _interrupt(self, request: protocol.Interrupt) -> list[Effect]:
        target = request.target_request_id
        if target is None:
            if request.scope == "all":
                return [InterruptEverybody(request.unique_request_id)]
            interrupted, effects = self.interrupt_generations()
        else:
            ticket = self._running.get(target)
            interrupted, effects = self._stop([ticket] if isinstance(ticket, LoadTicket | GenerationTicket) else [])
        return [*self.everybody_interrupted(request.unique_request_id, interrupted), *effects]

    def _close(self, request: protocol.Close) -> list[Effect]:
        ack = Send(protocol.CloseAck(unique_request_id=request.unique_request_id))
        if self._remote_close:
            return [ack, StopModule()]
        return [ack, *self.closing(), Disconnect(_NORMAL_CLOSURE, "closed on request")]

    def _errand(self, ticket: Ticket, effects: Callable[[], list[Effect]]) -> list[Effect]:
        """Begin what is no generation: bounded in number, and refused once the module closes."""
        if self._closing:
            return [Send(self._terminal(ticket, _CLOSING))]
        if self._limited and self._errands >= _MOST_ERRANDS:
            return [Send(self._terminal(ticket, _too_many(_MOST_ERRANDS).failure()))]
        self._errands += 1
        self._running[ticket.request_id] = ticket
        return effects()

    def _choose(self, name: str | None) -> Loaded:
        """The load that a request means: the named one, else the newest that succeeded, else the shared one.

        Raises: UnknownProvider, Closing.
        """
        if self._closing:
            raise Closing(_CLOSING.message)
        if self._loads:
            own = self._loads.get(name) if name is not None else next(reversed(self._loads.values()))
            if own is not None:
                return own[1]
        else:
            shared = self._shared()
            if shared is not None and name in (None, shared.provider):
                return shared
        loading = {ticket.provider for ticket in self._running.values() if isinstance(ticket, LoadTicket)}
        if loading and (name is None or name in loading):
            raise UnknownProvider("a load is still running; wait for its load_done")
        what = "no provider is loaded" if name is None else f"{quoted(name)} is not loaded on this connection"
        raise UnknownProvider(f"{what}; send a load first")

    # What became of it.

    def load_progress(self, ticket: LoadTicket, progress: LoadProgress) -> protocol.LoadProgress | None:
        """The reply that is due, if any."""
        return self._replies.progress(ticket, progress) if ticket.progress and not ticket.done else None

    def load_succeeded(self, ticket: LoadTicket, loaded: Loaded) -> list[Effect]:
        """The load is this connection's from now on."""
        if ticket.done:
            return []
        known = self._loads.get(ticket.provider)
        if known is None or known[0] < ticket.order:
            self._loads[ticket.provider] = (ticket.order, loaded)
            self._loads = dict(sorted(self._loads.items(), key=lambda load: load[1][0]))
        done = self._replies.load_done(ticket.request_id, ticket.provider, None, loaded.warning)
        return [self._finish(ticket, ErrorCode.SUCCESS), Send(done)]

    def chunks(self, ticket: GenerationTicket, texts: Sequence[str]) -> list[Effect]:
        """Pieces of text came; where the answer became too long with them, it ends."""
        if ticket.done:
            return []
        ticket.chunks += len(texts)
        ticket.last_text = now = self._clock()
        if ticket.first_chunk_s is None:
            ticket.first_chunk_s = now - ticket.started
        if ticket.text is None:
            return [SendText(ticket, texts)]
        text = "".join(texts)
        ticket.size += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        if ticket.size > self._limits.answer_bytes:
            return self._end(ticket, self._too_long(), cancel=True)
        ticket.text.write(text)
        return []

    def _too_long(self) -> Failure:
        text = (
            f"the answer is longer than {self._limits.answer_bytes} bytes (limits.answer_bytes); "
            "stream it, or ask for less with max_output_length"
        )
        return Failure(ErrorCode.UNEXPECTED, text, Reason.TRUNCATED)

    def generation_ended(self, ticket: GenerationTicket, ending: Ending) -> list[Effect]:
        """The pool ended it, well or not."""
        if ticket.done:
            return []
        code = ErrorCode.SUCCESS if ending.failure is None else ending.failure.code
        done = self._replies.generation_ended(ticket, ending)
        return [self._finish(ticket, code), Send(done)]

    def models_read(self, ticket: ModelsTicket, models: ModelList) -> list[Effect]:
        """The model list came."""
        if ticket.done:
            return []
        done = self._replies.models_done(ticket.request_id, models)
        return [self._finish(ticket, ErrorCode.SUCCESS), Send(done)]

    def unloaded(self, ticket: UnloadTicket) -> list[Effect]:
        """The workers are stopped."""
        if ticket.done:
            return []
        done = self._replies.unload_done(ticket.request_id, ticket.provider, None)
        return [self._finish(ticket, ErrorCode.SUCCESS), Send(done)]

    def failed(self, ticket: Ticket, failure: Failure) -> list[Effect]:
        """Whatever it was, it failed by itself."""
        return self._end(ticket, failure, cancel=False)

    def broken(self, ticket: Ticket, failure: Failure) -> list[Effect]:
        """Something of ours broke on the way: it may still go on elsewhere."""
        return self._end(ticket, failure, cancel=True)

    def timer_expired(self, ticket: LoadTicket | GenerationTicket) -> list[Effect]:
        """A timer ran out; a stream that gave text since it was set gets a new one."""
        if ticket.done or ticket.timeout_s is None:
            return []
        if isinstance(ticket, GenerationTicket) and ticket.stream:
            due = ticket.last_text + ticket.timeout_s
            if due > self._clock():
                return [SetTimer(ticket, due)]
        what = "the load was not done" if isinstance(ticket, LoadTicket) else "no answer came"
        text = f"{what} within the request's timeout_ms ({ticket.timeout_s * 1000:.0f}); try again or give it longer"
        return self._end(ticket, TimedOut(text).failure(), cancel=True)

    def providers_read(self, request_id: RequestId, details: Mapping[str, protocol.ProviderDetails]) -> list[Effect]:
        """Every worker there is."""
        return [Send(self._replies.providers_done(request_id, details))]

    def cannot_answer(self, request_id: RequestId, failure: Failure) -> list[Effect]:
        """A request that has no error of its own went wrong, or a frame could not be taken at all."""
        return [Send(self._replies.error(request_id, failure))]

    # Ending what runs.

    def interrupt_generations(self) -> tuple[list[RequestId], list[Effect]]:
        """Stop this connection's generations: their ids, and what is to be done after the acknowledgement."""
        return self._stop([t for t in self._running.values() if isinstance(t, GenerationTicket)])

    def everybody_interrupted(self, request_id: RequestId, interrupted: list[RequestId]) -> list[Effect]:
        """Acknowledge an interrupt."""
        return [Send(protocol.InterruptAck(unique_request_id=request_id, interrupted=interrupted))]

    def closing(self) -> list[Effect]:
        """The module, or this connection, is about to end: all that runs is told, and nothing new begins."""
        self._closing = True
        return [
            effect for ticket in list(self._running.values()) for effect in self._end(ticket, _CLOSING, cancel=True)
        ]

    def disconnected(self) -> list[Effect]:
        """The client is gone: all that it was running ends unheard."""
        self._closing = True
        return [self._finish(ticket, ErrorCode.INTERRUPT, cancel=True) for ticket in list(self._running.values())]

    def _stop(self, tickets: Iterable[Ticket]) -> tuple[list[RequestId], list[Effect]]:
        stopped = list(tickets)
        effects = [effect for ticket in stopped for effect in self._end(ticket, _INTERRUPTED, cancel=True)]
        return [ticket.request_id for ticket in stopped], effects

    def _end(self, ticket: Ticket, failure: Failure, *, cancel: bool) -> list[Effect]:
        if ticket.done:
            return []
        terminal = self._terminal(ticket, failure)
        return [self._finish(ticket, failure.code, cancel=cancel), Send(terminal)]

    def _finish(self, ticket: Ticket, code: ErrorCode, *, cancel: bool = False) -> Finished:
        """Take a ticket off; its caller has seen that it is not done."""
        ticket.done = True
        del self._running[ticket.request_id]
        if isinstance(ticket, GenerationTicket):
            ticket.total_s = self._clock() - ticket.started
        else:
            self._errands -= 1
        return Finished(ticket, code, cancel)

    def _terminal(self, ticket: Ticket, failure: Failure) -> AnyReply:
        match ticket:
            case LoadTicket():
                return self._replies.load_done(ticket.request_id, ticket.provider, failure)
            case GenerationTicket():
                return self._replies.generation_failed(ticket.request_id, ticket.stream, failure)
            case ModelsTicket():
                return self._replies.models_done(ticket.request_id, failure)
            case _:
                return self._replies.unload_done(ticket.request_id, ticket.provider, failure)


def _too_many(most: int) -> Busy:
    """What a client is told that asks for one more."""
    return Busy(f"this connection already has {most} requests under way; wait for some to end")
