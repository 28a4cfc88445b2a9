"""Puts the module together and runs it: catalog, environments, processes, pool and server; then takes it down."""

import asyncio
import contextlib
import functools
import gc
import logging
import os
import platform
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Self

if sys.platform != "win32":
    import resource

import msgspec

from waifu_llm import __version__, log
from waifu_llm.catalog import Catalog
from waifu_llm.config import Settings
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.environment.thread import in_thread
from waifu_llm.keys import KeyStore, find_key, has_key, key_in_variables
from waifu_llm.last_used import LastUsed
from waifu_llm.late import catch_up
from waifu_llm.paths import Home
from waifu_llm.redaction import Redactor
from waifu_llm.runfile import remove_run_file, write_run_file
from waifu_llm.server import Server
from waifu_llm.stats import Statistics
from waifu_llm.supervision.pool import Pool, PoolMeans
from waifu_llm.supervision.process import Processes
from waifu_llm.watchdog import watching

INTERRUPTED: Final = 130
# A stop in good order takes as long as clients and workers make it, up to this; then force is used, and after
# `LAST_RESORT_S` a program is gone, whatever hangs: its guardian ends what is left.
STOP_S: Final = 7.0
LAST_RESORT_S: Final = 9.0
_LAST_WORDS_S: Final = 0.5
_OPEN_FILES: Final = 65536
_CATCH_UP_AFTER_S: Final = 1.0
_log: Final = logging.getLogger(__name__)


class Announce(msgspec.Struct, frozen=True):
    """Who is told what listens: the module's URL, and the name and address of each gateway, again where it was started
    again. Gateways are started where somebody wants to be told of them. `stopping` is told that the stop has begun, and
    the exit code.
    """

    module: Callable[[str], None]
    gateway: Callable[[str, str], None] | None = None
    stopping: Callable[[int], None] | None = None


class _Running(msgspec.Struct, frozen=True):
    """A pool, and what can wait until the module listens: `settle` begins that, in the background."""

    pool: Pool
    settle: Callable[[], None]


async def _catch_up(catalog: Catalog) -> None:
    """What nobody has needed so far is read, so that nobody waits for it then. Not at once: a client that waited for
    the module, and what it loads, have the processors first.
    """
    await asyncio.sleep(_CATCH_UP_AFTER_S)
    await in_thread(catch_up)
    await in_thread(catalog.read_all)


@asynccontextmanager
async def _running_pool(
    settings: Settings,
    home: Home,
    environ: Mapping[str, str],
    *,
    catalog: Catalog,
    redactor: Redactor,
    statistics: Statistics,
) -> AsyncIterator[_Running]:
    """A pool with all it needs; at the end every worker, build and guardian is gone."""
    redactor.add_found(environ, (settings.uv.index, settings.uv.find_links))
    async with Processes() as processes:
        store = EnvironmentStore(home, settings.uv, processes.run, environ, settings.workers.build_silence_s)
        keys = KeyStore(home)
        pool = Pool(
            settings,
            PoolMeans(
                catalog=catalog,
                home=home,
                environments=store,
                spawn=processes.spawn,
                environ=environ,
                key_at_hand=functools.partial(key_in_variables, environ=environ),
                own_key=functools.partial(find_key, environ=environ, store=keys),
                has_key=functools.partial(has_key, environ=environ, store=keys),
                redactor=redactor,
                statistics=statistics,
                last_used=LastUsed(home),
            ),
        )
        reading: set[asyncio.Task[None]] = set()

        def settle() -> None:
            processes.prepare()
            store.start()
            reading.add(asyncio.get_running_loop().create_task(_catch_up(catalog)))
            pool.prewarm()

        try:
            yield _Running(pool, settle)
        finally:
            for task in reading:
                task.cancel()
            # Both kill what they started; neither may keep the other from it.
            await asyncio.gather(pool.close(), store.close())


async def run_module(
    settings: Settings,
    home: Home,
    environ: Mapping[str, str],
    *,
    redactor: Redactor | None = None,
    catalog: Catalog | None = None,
    announce: Announce | None = None,
    stop: asyncio.Event | None = None,
) -> int:
    """Serve until told to stop; returns the exit code (0, or 130 after Ctrl-C).

    Without `stop` it is a program's whole work: it can be found through its run file, handles SIGTERM, SIGHUP and
    Ctrl-C itself, of which the first drains and a second Ctrl-C ends it now.
    Raises: ModuleError where it cannot listen.
    """
    redactor = redactor or Redactor()
    redactor.add(settings.token)
    _set_limits()
    statistics = Statistics()
    stopping = stop or asyncio.Event()
    told_by = _signals(stopping) if stop is None else contextlib.nullcontext(_Told())
    with told_by as told, watching(asyncio.get_running_loop()):
        end = _End(told, announce)
        async with (
            end.in_time(),
            _running_pool(
                settings,
                home,
                environ,
                catalog=catalog or Catalog.read(),
                redactor=redactor,
                statistics=statistics,
            ) as running,
        ):
            pool = running.pool
            server = Server(pool, settings, statistics, redactor, pool.gateway_token)
            host, port = await server.start()
            if stop is None:
                # What is there now stays to the end: a collection that looks at it again keeps all clients waiting.
                gc.freeze()
                gc.enable()
            url = f"{'ws' if settings.server.tls_cert is None else 'wss'}://{host}:{port}"
            try:
                with _findable(home, url, settings) if stop is None else contextlib.nullcontext():
                    if announce is not None:
                        announce.module(url)
                    running.settle()
                    if announce is not None and announce.gateway is not None:
                        pool.start_gateways(server.gateway_url or url, announce.gateway)
                    await _either(stopping, server.stop_requested)
                    if server.stop_requested.is_set():
                        _log.info("a client asked the module to stop")
            finally:
                end.begins()
                await server.drain()
    return INTERRUPTED if told.interrupted else 0


@contextlib.contextmanager
def _findable(home: Home, url: str, settings: Settings) -> Iterator[None]:
    """While it lasts other commands find the module; the log has when that was."""
    write_run_file(home, url, settings.token, settings.server.tls_cert)
    _log.info("started: %s, version %s, Python %s, home %s", url, __version__, platform.python_version(), home.root)
    try:
        yield
    finally:
        remove_run_file(home)
        _log.info("stopping")


def _set_limits() -> None:
    """Keys lie in this process's memory: no core dumps, of what it starts neither. Every connection and every worker's
    pipes are open files: take as many as the system gives without asking.
    """
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _either(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


class _Told:
    """Which signal asked for the stop."""

    interrupted = False


class _End:
    """How long a stop may take."""

    def __init__(self, told: _Told, announce: Announce | None) -> None:
        self._told = told
        self._announce = announce
        self._limit = asyncio.timeout(None)

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Around all that a stop ends. What waits `STOP_S` after `begins` is cancelled: then there is only force."""
        try:
            async with self._limit:
                yield
        except TimeoutError:
            if not self._limit.expired():
                raise
            _log.error("the module did not stop in good order within %g s; what was left has been killed", STOP_S)

    def begins(self) -> None:
        """The stop has begun."""
        self._limit.reschedule(asyncio.get_running_loop().time() + STOP_S)
        if self._announce is not None and self._announce.stopping is not None:
            self._announce.stopping(INTERRUPTED if self._told.interrupted else 0)


class LastResort:
    """Ends a program whose stop hangs: a context manager around all of it, the loop's own end included, which waits for
    threads. Once armed it ends the process `LAST_RESORT_S` later, unless the block has ended by then.
    """

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def arm(self, code: int) -> None:
        """The stop has begun; `code` is the exit code of a process that has to be ended."""
        self._timer = threading.Timer(LAST_RESORT_S, self._leave, (code,))
        self._timer.daemon = True
        self._timer.start()

    def _leave(self, code: int) -> None:
        _log.critical("the module did not stop within %g s: it ends now", LAST_RESORT_S)
        log.flush(_LAST_WORDS_S)
        os._exit(code)


@contextlib.contextmanager
def _signals(stopping: asyncio.Event) -> Iterator["_Told"]:
    """The first SIGTERM, SIGHUP or Ctrl-C sets `stopping`; a second Ctrl-C ends the process."""
    loop = asyncio.get_running_loop()
    told = _Told()

    def interrupt(*_: object) -> None:
        if told.interrupted:
            # Now means now: the guardian ends what is left, and the run file is swept by who looks next.
            os._exit(INTERRUPTED)
        told.interrupted = True
        loop.call_soon_threadsafe(stopping.set)

    before = signal.signal(signal.SIGINT, interrupt)
    if sys.platform != "win32":
        handled = [signal.SIGTERM]
        # `nohup` has it ignored, so that the module outlives its terminal.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handled.append(signal.SIGHUP)
        for number in handled:
            loop.add_signal_handler(number, stopping.set)
    try:
        yield told
    finally:
        signal.signal(signal.SIGINT, before)
        if sys.platform != "win32":
            for number in handled:
                loop.remove_signal_handler(number)
