"""One generation from the pool's side: queued, starting, in the worker's hands, ended."""

import asyncio
import logging
from collections.abc import Callable, Hashable

from waifu_llm.errors import Failure, ModuleError, failure_of
from waifu_llm.supervision.context import Context
from waifu_llm.supervision.exchange import Exchange
from waifu_llm.supervision.jobs import Ending, Job, Sink
from waifu_worker.wire import Done, Generate

_log = logging.getLogger(__name__)


class Run:
    """Satisfies `jobs.Generation`.

    `on_sent` is called when the worker has its job, which it keeps no longer; `on_finished` once, when its place is
    free again.
    """

    def __init__(
        self,
        context: Context,
        job: Job,
        connection: Hashable,
        sink: Sink,
        on_sent: Callable[["Run"], None],
        on_finished: Callable[["Run"], None],
    ) -> None:
        self.context = context
        self.connection = connection
        self._job: Job | None = job
        self._sink: Sink | None = sink
        self._on_sent = on_sent
        self._on_finished = on_finished
        self._exchange: Exchange | None = None
        self._waking: asyncio.Task[None] | None = None
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether it has, or had, a place."""
        return self._begun

    @property
    def silenced(self) -> bool:
        """Whether nobody waits for its end any more."""
        return self._sink is None

    def begin(self) -> None:
        """It has a place: hand it to the worker, waking that first where needed."""
        self._begun = True
        if self.context.is_ready:
            self._submit_or_fail()
        else:
            self._waking = asyncio.get_running_loop().create_task(self._wake())

    async def _wake(self) -> None:
        try:
            await self.context.ensure(by_load=False)
        except Exception as error:
            self._finish(_ending(error))
        else:
            self._submit_or_fail()

    def _submit_or_fail(self) -> None:
        try:
            self._submit()
        except Exception as error:
            # Later, so that a caller of `begin` has its generation before it hears of its end.
            asyncio.get_running_loop().call_soon(self._finish, _ending(error))

    def _submit(self) -> None:
        job, sink = self._job, self._sink
        assert sink is not None
        assert job is not None
        left_ms = None
        if job.deadline is not None:
            left_ms = max(1, round((job.deadline - asyncio.get_running_loop().time()) * 1000))
        message = Generate(
            id=0,
            ctx=self.context.ctx,
            params=job.params,
            messages=job.messages,
            prompt=job.prompt,
            stream=job.stream,
            time_left_ms=left_ms,
        )
        self._exchange = Exchange(self._ended, chunks=sink.chunks)
        self.context.supervisor.submit(self._exchange, message)
        self._job = None
        self._on_sent(self)

    def _ended(self, end: Done | ModuleError) -> None:
        if isinstance(end, ModuleError):
            self._finish(Ending(end.failure()))
        else:
            self._finish(Ending(None, end.usage, end.finish_reason, end.ignored))

    def _finish(self, ending: Ending) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.ended(ending)
        self._on_finished(self)
        # Each has the other: they would stay, with all that the request held, until a collection of garbage.
        self._exchange = None

    def silence(self) -> None:
        """The client has its terminal message, or is gone: the sink hears nothing more."""
        self._sink = None

    def fail(self, failure: Failure) -> None:
        """Tell the sink a bad end now; the place is given back when the worker is done with it."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.ended(Ending(failure))

    def cancel(self) -> None:
        """End it where it has a place already; `on_finished` follows, here or when the worker confirms."""
        if self._exchange is not None:
            self.context.supervisor.cancel(self._exchange)
        elif self._waking is not None:
            # Once: an unload and an interrupt may both come before the task has ended, and it has one place to give.
            waking, self._waking = self._waking, None
            waking.add_done_callback(lambda task: self._on_finished(self) if task.cancelled() else None)
            waking.cancel()


def _ending(error: Exception) -> Ending:
    """A bad end; what is not ours is a bug and goes to the log with its trace."""
    if not isinstance(error, ModuleError):
        _log.error("an error inside the module", exc_info=error)
    return Ending(failure_of(error))
