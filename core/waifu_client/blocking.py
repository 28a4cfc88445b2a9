"""The client without asyncio: the same calls, which wait. An event loop of its own runs in a thread beneath."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack

from waifu_client.client import Client
from waifu_client.errors import ConnectionLost
from waifu_client.prompts import Messages, Params
from waifu_client.protocol import GetStatsDone, LoadProgress, RequestId, Usage
from waifu_client.results import Answer, Loaded, Models, Providers
from waifu_client.stream import Stream

if TYPE_CHECKING:
    from ssl import SSLContext

LOOK_S: Final = 0.2  # Windows lets Ctrl-C through only between waits, never within one
CLOSED: Final = "this client closed the connection"

T = TypeVar("T")


class _LoopThread:
    """An event loop in a daemon thread, for as long as one client lives."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="waifu-client", daemon=True)
        self._thread.start()
        # What begins before a stop is cancelled by it; after it nothing begins. Reentrant: a forgotten stream can be
        # collected, and post its leaving, wherever this thread happens to be.
        self._lock = threading.RLock()
        self._stopped = False

    def run(self, job: Coroutine[Any, Any, T]) -> T:
        """Run it there and wait; an exception here, Ctrl-C above all, cancels it there."""
        return self._wait_for(job, self._begin)

    def post(self, call: Callable[[], None]) -> None:
        """Call it there without waiting."""
        with self._lock:
            if not self._stopped:
                self._loop.call_soon_threadsafe(call)

    def stop(self, last: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """Do the last thing, cancel what still runs and end the thread. Safe to repeat."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        try:
            if last is not None:
                self._wait_for(last(), self._run)
        finally:
            self._wait_for(_cancel_all(), self._run)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _wait_for(self, job: Coroutine[Any, Any, T], begin: Callable[[Coroutine[Any, Any, T], Future[T]], None]) -> T:
        # The future is there before the job is: Ctrl-C at any moment finds something to cancel.
        ended: Future[T] = Future()
        try:
            begin(job, ended)
            while not wait([ended], LOOK_S).done:
                pass
            return ended.result()
        finally:
            ended.cancel()

    def _begin(self, job: Coroutine[Any, Any, T], ended: Future[T]) -> None:
        with self._lock:
            if self._stopped:
                job.close()
                raise ConnectionLost(CLOSED)
            self._run(job, ended)

    def _run(self, job: Coroutine[Any, Any, T], ended: Future[T]) -> None:
        self._loop.call_soon_threadsafe(self._run_there, job, ended)

    def _run_there(self, job: Coroutine[Any, Any, T], ended: Future[T]) -> None:
        if ended.cancelled():
            job.close()
            return
        task = self._loop.create_task(job)
        task.add_done_callback(functools.partial(_settle, ended))

        def given_up(_: Future[T]) -> None:
            if ended.cancelled():
                self._loop.call_soon_threadsafe(task.cancel)

        ended.add_done_callback(given_up)


def _settle(ended: Future[T], task: asyncio.Task[T]) -> None:
    error = ConnectionLost(CLOSED) if task.cancelled() else task.exception()
    if not ended.set_running_or_notify_cancel():
        return
    if error is None:
        ended.set_result(task.result())
    else:
        ended.set_exception(error)


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class BlockingStream:
    """The pieces of one answer. Leaving the loop, with Ctrl-C too, interrupts the request; so does `close()`."""

    def __init__(self, thread: _LoopThread, stream: Stream) -> None:
        self._thread = thread
        self._stream = stream

    @property
    def usage(self) -> Usage | None:
        """Known once the loop has ended by itself."""
        return self._stream.usage

    @property
    def finish_reason(self) -> str | None:
        """Known once the loop has ended by itself."""
        return self._stream.finish_reason

    @property
    def ignored(self) -> tuple[str, ...]:
        """Known once the loop has ended by itself."""
        return self._stream.ignored

    @property
    def request_id(self) -> RequestId:
        """What `interrupt(target=...)` takes."""
        return self._stream.request_id

    def __iter__(self) -> Iterator[str]:
        return self._read(aiter(self._stream))

    def _read(self, pieces: AsyncIterator[str]) -> Iterator[str]:
        try:
            while (piece := self._thread.run(_advance(pieces))) is not None:
                yield piece
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Interrupt what still runs. Does not wait; safe to repeat."""
        self._thread.post(self._stream.leave)


async def _advance(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)


class BlockingClient:
    """One connection to a module, for programs without asyncio; every call as in `Client`, and it waits.

    Threads may share it. Ctrl-C during a call interrupts what the call started at the provider too.
    """

    def __init__(self, url: str | None = None, *, token: str | None = None, tls: "SSLContext | None" = None) -> None:
        self._thread = _LoopThread()
        try:
            self._client = self._thread.run(Client.open(url, token=token, tls=tls))
        except BaseException:
            self._thread.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, which ends all that it was running. Safe to repeat."""
        self._thread.stop(self._client.aclose)

    def load(
        self,
        provider: str,
        /,
        *,
        api_key: str | None = None,
        preload_model_id: str | None = None,
        timeout_ms: int | None = None,
        on_progress: Callable[[LoadProgress], object] | None = None,
        **fields: object,
    ) -> Loaded:
        """See `Client.load`. `on_progress` is called from the client's own thread: it must not call the client."""
        return self._thread.run(
            self._client.load(
                provider,
                api_key=api_key,
                preload_model_id=preload_model_id,
                timeout_ms=timeout_ms,
                on_progress=on_progress,
                **fields,
            )
        )

    def unload(self, provider: str) -> None:
        """See `Client.unload`."""
        self._thread.run(self._client.unload(provider))

    def providers(self) -> Providers:
        """See `Client.providers`."""
        return self._thread.run(self._client.providers())

    def models(self, provider: str | None = None) -> Models:
        """See `Client.models`."""
        return self._thread.run(self._client.models(provider))

    def generate(
        self,
        messages: Messages = (),
        *,
        prompt: str | None = None,
        model_id: str | None = None,
        provider: str | None = None,
        **params: Unpack[Params],
    ) -> Answer:
        """See `Client.generate`."""
        return self._thread.run(
            self._client.generate(messages, prompt=prompt, model_id=model_id, provider=provider, **params)
        )

    def stream(
        self,
        messages: Messages = (),
        *,
        prompt: str | None = None,
        model_id: str | None = None,
        provider: str | None = None,
        **params: Unpack[Params],
    ) -> BlockingStream:
        """See `Client.stream`: `for piece in llm.stream("Hello"): ...`."""
        stream = self._client.stream(messages, prompt=prompt, model_id=model_id, provider=provider, **params)
        return BlockingStream(self._thread, stream)

    def interrupt(self, target: RequestId | None = None, scope: str | None = None) -> list[RequestId]:
        """See `Client.interrupt`; usually called from another thread than the one that reads."""
        return self._thread.run(self._client.interrupt(target, scope))

    def stats(self) -> GetStatsDone:
        """See `Client.stats`."""
        return self._thread.run(self._client.stats())

    def close_module(self) -> None:
        """See `Client.close_module`."""
        self._thread.run(self._client.close_module())


def connect_blocking(
    url: str | None = None, *, token: str | None = None, tls: "SSLContext | None" = None
) -> BlockingClient:
    """A connection to a module, by default the one on this machine; use it in a `with`. Raises: as `connect`."""
    return BlockingClient(url, token=token, tls=tls)
