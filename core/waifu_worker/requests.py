"""What a worker is asked: its load contexts, one owned task per request, and how each ends exactly once."""

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from typing import Final, TypeAlias, TypeVar, assert_never

import msgspec

from waifu_worker.framing import encode
from waifu_worker.generation import Outlet, Ticket, generate
from waifu_worker.provider import LoadRequest, Provider, ProviderError
from waifu_worker.scrub import Scrubber
from waifu_worker.wire import Cancel, Code, Done, Failed, Generate, Load, Models, Progress, ToWorker, Unload

_LONGEST_MESSAGE: Final = 1000
_LONGEST_OF_OTHERS: Final = 300

_M = TypeVar("_M", Load, Models, Generate)
_Work: TypeAlias = Callable[[_M], Coroutine[None, None, Done]]


class _Context(msgspec.Struct, eq=False):
    """One set of load fields: its provider, ready once loaded, closed once retired and used by nobody."""

    provider: Provider
    ready: bool = False
    retired: bool = False
    users: int = 0


class _Running(msgspec.Struct, eq=False):
    """One request that runs."""

    ticket: Ticket
    ctx: int
    loads: bool
    started: bool = False
    task: asyncio.Task[None] | None = None


class Requests:
    """Everything that runs in a worker. Its methods belong to the event loop; none but `close` waits.

    `make` gives a new Provider object, `outlet` takes the answers, `name` is the worker's, for sentences about its log.
    """

    def __init__(self, make: Callable[[], Provider], outlet: Outlet, name: str = "the worker") -> None:
        self.make = make
        self.outlet = outlet
        self.name = name
        self._contexts: dict[int, _Context] = {}
        self._running: dict[int, _Running] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._scrubber = Scrubber()

    def handle(self, message: ToWorker) -> None:
        """Begin what the core asks for. A cancel or an unload of what is not there is ignored."""
        match message:
            case Load():
                self._scrubber.add(message.api_key)
                self._start(message, self._load)
            case Models():
                self._start(message, self._models)
            case Generate():
                self._start(message, self._generate)
            case Cancel():
                self._cancel(self._running.get(message.id))
            case Unload():
                self._unload(message.ctx)
            case _:
                assert_never(message)

    async def close(self) -> None:
        """Cancel what runs and close every provider. Unbounded: the caller bounds it."""
        running = list(self._running.values())
        for request in running:
            self._cancel(request)
        await asyncio.gather(*(request.task for request in running if request.task is not None))
        for ctx in list(self._contexts):
            self._unload(ctx)
        await asyncio.gather(*self._closing)

    def _start(self, message: _M, work: _Work[_M]) -> None:
        if message.id in self._running:
            sys.stderr.write(f"skipped a second request with the id {message.id}\n")
            return
        request = _Running(Ticket(self._complain), message.ctx, isinstance(message, Load))
        self._running[message.id] = request
        request.task = asyncio.get_running_loop().create_task(
            self._serve(message, request, work), name=f"request {message.id}"
        )

    async def _serve(self, message: _M, request: _Running, work: _Work[_M]) -> None:
        request_id = message.id
        request.started = True
        answer: Done | Failed | None = None
        if not request.ticket.cancelled:
            try:
                answer = await work(message)
            except BaseException as error:  # also SystemExit: a library that gives up must not take the others along
                answer = self._failed(request_id, error)
        if answer is None or request.ticket.cancelled:
            answer = Failed(id=request_id, error=Code.INTERRUPT, message="cancelled")
        del self._running[request_id]
        try:
            line = encode(answer)
        except Exception as error:  # too long, or a value of the provider's that is none of JSON's
            line = encode(self._failed(request_id, error))
        self.outlet.write(line)

    def _cancel(self, request: _Running | None) -> None:
        if request is None or request.ticket.cancelled:
            return
        request.ticket.cancelled = True
        # A task that never ran would end without a word: it looks at the ticket when it starts.
        if request.started and request.task is not None:
            request.task.cancel()

    async def _load(self, message: Load) -> Done:
        context = _Context(self.make(), users=1)
        self._retire(message.ctx)
        self._contexts[message.ctx] = context
        try:
            try:
                result = await context.provider.load(
                    LoadRequest(message.api_key, message.options, message.preload_model_id, self._reporter(message.id))
                )
            finally:
                self._leave(context)
        except BaseException:
            if self._contexts.get(message.ctx) is context:
                self._retire(message.ctx)
            raise
        context.ready = True
        warning = None if result.warning is None else self._clean(result.warning)
        return Done(id=message.id, models=tuple(result.models), warning=warning)

    async def _models(self, message: Models) -> Done:
        context = self._enter(message.ctx)
        try:
            return Done(id=message.id, models=tuple(await context.provider.models()))
        finally:
            self._leave(context)

    async def _generate(self, message: Generate) -> Done:
        context = self._enter(message.ctx)
        try:
            return await generate(context.provider, message, self.outlet, self._running[message.id].ticket)
        finally:
            self._leave(context)

    def _enter(self, ctx: int) -> _Context:
        """A loaded context, whose provider stays open until `_leave`, also where it is retired meanwhile."""
        context = self._contexts.get(ctx)
        if context is None:
            raise ProviderError(Code.UNEXPECTED, "the provider is not loaded here: load it again")
        if not context.ready:
            raise ProviderError(Code.UNEXPECTED, "the provider's load is still running: wait for its end")
        context.users += 1
        return context

    def _leave(self, context: _Context) -> None:
        context.users -= 1
        self._close_unused(context)

    def _unload(self, ctx: int) -> None:
        """Forget a context: a load of it has nobody left who waits, what generates in it may finish."""
        for request in self._running.values():
            if request.loads and request.ctx == ctx:
                self._cancel(request)
        self._retire(ctx)

    def _retire(self, ctx: int) -> None:
        context = self._contexts.pop(ctx, None)
        if context is not None:
            context.retired = True
            self._close_unused(context)

    def _close_unused(self, context: _Context) -> None:
        if context.retired and not context.users:
            task = asyncio.get_running_loop().create_task(self._close_provider(context.provider))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close_provider(self, provider: Provider) -> None:
        try:
            await provider.close()
        except (Exception, SystemExit) as error:
            self._complain(error)

    def _reporter(self, request_id: int) -> Callable[[str, str, float | None], None]:
        """The `report` of one load; may be called from any thread, and is silent once the load has ended."""
        loop = asyncio.get_running_loop()

        def send(stage: str, detail: str, fraction: float | None) -> None:
            if request_id in self._running:
                if fraction is not None:
                    fraction = min(max(fraction, 0.0), 1.0)
                progress = Progress(id=request_id, stage=stage, detail=self._clean(detail), fraction=fraction)
                self.outlet.write(encode(progress))

        def report(stage: str, detail: str, fraction: float | None) -> None:
            # In order with the load's own end where it comes from the loop itself.
            if threading.get_ident() == loop_thread:
                send(stage, detail, fraction)
            else:
                loop.call_soon_threadsafe(send, stage, detail, fraction)

        loop_thread = threading.get_ident()
        return report

    def _failed(self, request_id: int, error: BaseException) -> Failed:
        """Any exception as the core is told it; one that the provider did not mean goes to the log as well."""
        if isinstance(error, ProviderError):
            return Failed(
                id=request_id,
                error=error.code,
                message=self._clean(error.message),
                reason=error.reason,
                retry_after_ms=error.retry_after_ms,
                http_status=error.http_status,
                provider_code=None if error.provider_code is None else self._clean(error.provider_code),
            )
        if not isinstance(error, asyncio.CancelledError):
            self._complain(error)
        if isinstance(error, MemoryError):
            message = "the worker is out of memory: use a smaller model or a shorter prompt"
            return Failed(id=request_id, error=Code.UNEXPECTED, message=message, reason="out_of_memory")
        what = self._scrubber.scrub(_last_line(error))[:_LONGEST_OF_OTHERS]
        message = f"{what} (the log has more: waifu-llm logs {self.name})"
        return Failed(id=request_id, error=Code.UNEXPECTED, message=message)

    def _clean(self, text: str) -> str:
        return self._scrubber.scrub(text)[:_LONGEST_MESSAGE]

    def _complain(self, error: BaseException) -> None:
        """The traceback, without locals and keys, to the log."""
        sys.stderr.write(self._scrubber.scrub("".join(traceback.format_exception(error))))


def _last_line(error: BaseException) -> str:
    """The name of an exception and the end of what it says."""
    name = type(error).__name__
    try:
        lines = [line.strip() for line in str(error).splitlines()]
    except Exception:  # one that can't even say what it is must not keep a request from its end
        return name
    last = next((line for line in reversed(lines) if line), "")
    return f"{name}: {last}" if last else name
