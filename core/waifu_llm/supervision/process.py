"""Owns pids, signals and exit codes: every child of the core is started, watched and ended here.

Children are started from the event loop only, each in a session of its own with an environment built as a new
dict; each carries this run's marker and a mark of its own, by which what outlives it, or the core, is found.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

from waifu_llm.environment.model import Completed
from waifu_llm.supervision import guardian, orphans, windows_job
from waifu_llm.supervision.collector import TAIL_BYTES, Collector
from waifu_llm.supervision.guard import Guard
from waifu_llm.supervision.output import tell_at_once
from waifu_llm.supervision.screen import Screen

_log = logging.getLogger(__name__)

STEP_S: Final = 2.0
_READ_BYTES: Final = 8 * 1024
_REAP_TRIES: Final = 40
_REAP_PAUSE_S: Final = 0.05
_LOOK_INTERVAL_S: Final = 5.0
if sys.platform == "win32":
    _CREATION_FLAGS: Final = 0x00000200  # CREATE_NEW_PROCESS_GROUP
    _BELOW_NORMAL: Final = 0x00004000  # BELOW_NORMAL_PRIORITY_CLASS
    _KILL: Final = signal.SIGTERM
else:
    _CREATION_FLAGS: Final = 0
    _BELOW_NORMAL: Final = 0
    _KILL: Final = signal.SIGKILL


class ChildEvents(Protocol):
    """What a child tells its owner; called on the event loop, must not block."""

    def output(self, data: bytes) -> None:
        """Bytes of its standard output."""

    def errors(self, data: bytes) -> None:
        """Bytes of its standard error."""

    def exited(self, returncode: int) -> None:
        """Exactly once. A grandchild may still hold the pipes; nothing waits for them."""


class Child(Protocol):
    """A running child as its owner uses it."""

    @property
    def pid(self) -> int:
        """Its pid, which is also its process group."""

    @property
    def unsent(self) -> int:
        """Bytes that it has not read yet, beyond what the pipe holds."""

    def pause_reading(self) -> None:
        """Read no more of what it says, so that it waits with it; its end is told all the same."""

    def resume_reading(self) -> None:
        """Read on."""

    def write(self, data: bytes) -> None:
        """Queue bytes for its standard input; never blocks; a dead child ignores them."""

    async def stop(self) -> None:
        """End it: end of input, TERM, KILL, each with a bounded wait. Cancelling it leaves the ladder where it is."""

    async def kill(self) -> None:
        """End its whole group now and wait, bounded, until it is gone."""


class _Process(asyncio.SubprocessProtocol):
    """One child process with its group, as `Child`."""

    def __init__(self, events: ChildEvents, mark: int, forget: Callable[["_Process"], None]) -> None:
        self.mark = mark
        self._events = events
        self._forget = forget
        self._gone = asyncio.Event()
        self._stopping = False
        self._transport: asyncio.SubprocessTransport | None = None
        self._input: asyncio.WriteTransport | None = None
        self.pid = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport
        self.pid = transport.get_pid()
        for fd in (1, 2):
            # On Unix asyncio's own bound of one read: a full pipe of short lines would keep the loop from all others.
            pipe = transport.get_pipe_transport(fd)
            if pipe is not None:  # none for the stderr of what draws on the user's terminal
                setattr(pipe, "max_size", _READ_BYTES)  # noqa: B010 - it has no type
        stdin = transport.get_pipe_transport(0)
        assert stdin is None or isinstance(stdin, asyncio.WriteTransport)
        self._input = stdin
        output = self._output()
        if output is not None:
            tell_at_once(output, self._events.output)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._events.output(data)
        else:
            self._events.errors(data)

    def pipe_connection_lost(self, fd: int, error: Exception | None) -> None:
        # It closed its input, as it does when it ends, which is told soon. One that goes on would hear nothing more.
        if fd == 0 and not self._stopping and self.runs:
            asyncio.get_running_loop().call_later(STEP_S, self._end_deaf)

    def _end_deaf(self) -> None:
        if self.runs and not self._stopping:
            _log.warning("process %d closed its input and did not end: killing it", self.pid)
            self._signal_group(_KILL)

    def process_exited(self) -> None:
        assert self._transport is not None
        self._signal_group(_KILL)
        self._gone.set()
        self._forget(self)
        # What a dying process wrote last lies in the pipe still. What was read of it comes before `_tell_exit`, which
        # reads the rest: a piece that the loop would read in between would come after the rest.
        self._pause_reading()
        asyncio.get_running_loop().call_soon(self._tell_exit, self._transport.get_returncode() or 0)

    def _tell_exit(self, returncode: int) -> None:
        self._drain()
        self._events.exited(returncode)
        if self._transport is not None:
            self._transport.close()
            self._transport = self._input = None

    def _pause_reading(self) -> None:
        for fd in (1, 2):
            pipe = self._transport.get_pipe_transport(fd) if self._transport is not None else None
            if isinstance(pipe, asyncio.ReadTransport) and not pipe.is_closing() and sys.platform != "win32":
                pipe.pause_reading()

    def _drain(self) -> None:
        """Read what is left in the pipes, without waiting: a survivor may hold their other end for ever."""
        for fd in (1, 2):
            pipe = self._transport.get_pipe_transport(fd) if self._transport is not None else None
            source = pipe.get_extra_info("pipe") if pipe is not None and not pipe.is_closing() else None
            if source is None or sys.platform == "win32":
                continue
            with contextlib.suppress(OSError, ValueError):
                while data := os.read(source.fileno(), TAIL_BYTES):
                    self.pipe_data_received(fd, data)

    def pause_reading(self) -> None:
        pipe = self._output()
        if pipe is not None:
            pipe.pause_reading()

    def resume_reading(self) -> None:
        pipe = self._output()
        # Of one that has ended the rest is read at once, by `_drain`.
        if pipe is not None and self.runs:
            pipe.resume_reading()

    def _output(self) -> asyncio.ReadTransport | None:
        pipe = self._transport.get_pipe_transport(1) if self._transport is not None else None
        return pipe if isinstance(pipe, asyncio.ReadTransport) and not pipe.is_closing() else None

    @property
    def runs(self) -> bool:
        return not self._gone.is_set()

    @property
    def unsent(self) -> int:
        return self._input.get_write_buffer_size() if self._input is not None else 0

    def write(self, data: bytes) -> None:
        if self._input is not None and not self._input.is_closing():
            self._input.write(data)

    async def stop(self) -> None:
        self._stopping = True
        if self._input is not None:
            self._input.close() if not self.unsent else self._input.abort()
        if await self._wait():
            return
        _log.warning("process %d did not leave at the end of its input: terminating it", self.pid)
        self._signal_group(signal.SIGTERM)
        if not await self._wait():
            await self.kill()

    async def kill(self) -> None:
        self._signal_group(_KILL)
        if not await self._wait():
            _log.error("process %d could not be killed; giving it up", self.pid)

    async def _wait(self) -> bool:
        try:
            async with asyncio.timeout(STEP_S):
                await self._gone.wait()
        except TimeoutError:
            return False
        return True

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform != "win32":
                os.killpg(self.pid, number)
            elif not self._gone.is_set():
                os.kill(self.pid, number)


class Processes:
    """All children of one run: its marker, its guardian, and the way to start more. An async context manager.

    `draw` writes to the user's terminal, where there is one: commands that may use it get one of their own.
    """

    def __init__(self, draw: Callable[[bytes], None] | None = None) -> None:
        self._draw = draw
        self._marker = os.urandom(16).hex()
        self._first_mark = guardian.first_mark(self._marker)
        self._started = itertools.count()
        self._living: set[int] = set()
        self._guard = Guard(self._marker)
        self._children: set[_Process] = set()
        self._starting = 0
        self._look: asyncio.TimerHandle | None = None
        self._quick_looks = 0
        if sys.platform == "win32":
            self._job = windows_job.Job()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # At once, not one after the other: the guardian kills the same, and a stop has only so much time.
        await asyncio.gather(self._guard.close(), *(child.kill() for child in tuple(self._children)))
        self._end_orphans()
        orphans.leave(self._end_orphans)
        if self._look is not None:
            self._look.cancel()

    def prepare(self) -> None:
        """Do beforehand what the first start would wait for."""
        orphans.adopt(self._end_orphans)
        self._guard.begin()

    async def spawn(self, argv: Sequence[str], env: Mapping[str, str], events: ChildEvents, nice: int = 0) -> Child:
        """Start a worker with pipes on all three streams; with `nice` over 0 it and its children get less CPU time
        than others while there is too little of it (Windows knows one step only).

        Raises: OSError. Cancelling it leaves no process.
        """
        return await self._start(argv, env, events, asyncio.subprocess.PIPE, asyncio.subprocess.PIPE, nice)

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        on_line: Callable[[str], None] | None = None,
        silence_s: float | None = None,
        on_terminal: bool = False,
        until_line: bool = False,
        nice: int = 0,
    ) -> Completed:
        """Run one command to its end (see `environment.model.Run`)."""
        collector = Collector(on_line, until_line=until_line)
        screen = Screen(self._draw, collector.drawn) if on_terminal and self._draw is not None else None
        with contextlib.closing(screen) if screen is not None else contextlib.nullcontext():
            stdin = asyncio.subprocess.PIPE if until_line else asyncio.subprocess.DEVNULL
            stderr = asyncio.subprocess.PIPE if screen is None else screen.child_end
            child = await self._start(argv, env, collector, stdin, stderr, nice)
            if screen is not None:
                screen.started()
            try:
                while not collector.ended.done():
                    # Before the look at what it has said by now, some of it maybe while it was being started.
                    collector.heard.clear()
                    if collector.enough:
                        await child.stop()
                    async with asyncio.timeout(silence_s):
                        await collector.heard.wait()
            except BaseException:
                await asyncio.shield(child.kill())
                raise
        return Completed(
            collector.ended.result(),
            collector.stdout.decode("utf-8", "replace"),
            collector.tail.decode("utf-8", "replace"),
        )

    async def _start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        events: ChildEvents,
        stdin: int,
        stderr: int,
        nice: int = 0,
    ) -> _Process:
        orphans.adopt(self._end_orphans)
        await self._guard.watching()
        starting = asyncio.ensure_future(self._exec(argv, env, events, (stdin, stderr), nice))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The process may be there by now: wait for it, then end it, or nobody would.
            with contextlib.suppress(OSError):
                await (await starting).kill()
            raise

    async def _exec(
        self, argv: Sequence[str], env: Mapping[str, str], events: ChildEvents, streams: tuple[int, int], nice: int
    ) -> _Process:
        mark = self._first_mark + next(self._started) % guardian.MARKS
        self._living.add(mark)
        self._starting += 1
        process = None
        try:
            orphans.mark_next_start(mark)
            _, process = await asyncio.get_running_loop().subprocess_exec(
                lambda: _Process(events, mark, self._forget),
                *argv,
                env={**env, guardian.VARIABLE: self._marker},
                stdin=streams[0],
                stderr=streams[1],
                start_new_session=True,
                creationflags=_CREATION_FLAGS | (_BELOW_NORMAL if nice else 0),
            )
            if process.runs:
                self._children.add(process)
        finally:
            self._starting -= 1
            if process is None:
                self._living.discard(mark)
            if self._look is None:
                self._look = asyncio.get_running_loop().call_later(_LOOK_INTERVAL_S, self._end_orphans)
        _yield_cpu(process.pid, nice)
        if sys.platform == "win32":
            self._job.add(process.pid)
        return process

    def _forget(self, process: _Process) -> None:
        self._children.discard(process)
        self._living.discard(process.mark)
        self._reap(process.pid)
        self._quick_looks = _REAP_TRIES
        self._end_orphans()

    def _reap(self, group: int, tries: int = _REAP_TRIES) -> None:
        # What was killed needs a moment to die; for what cannot be killed nobody waits longer.
        if orphans.reap(group) and tries:
            asyncio.get_running_loop().call_later(_REAP_PAUSE_S, self._reap, group, tries - 1)

    def _end_orphans(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
        # A child that is being started is not among the known ones yet: asyncio waits for it, nobody else may.
        # So it is looked again in a moment: put off to the next look, what has died would stay for two of them.
        if self._starting:
            self._look = asyncio.get_running_loop().call_later(_REAP_PAUSE_S, self._end_orphans)
            return
        found = orphans.end(self._first_mark, self._living, keep={child.pid for child in self._children})
        if found or self._children:
            # Who was killed had children maybe, who are adopted at its end. That is told only in the main thread, where
            # nobody else took the signal: not in a command that types beside its loop (`cli.conversation`).
            quick = found and self._quick_looks > 0
            self._quick_looks -= quick
            delay = _REAP_PAUSE_S if quick else _LOOK_INTERVAL_S
            self._look = asyncio.get_running_loop().call_later(delay, self._end_orphans)


def _yield_cpu(pid: int, nice: int) -> None:
    # It may have ended already. Its children and threads inherit it; before this call it had no time to start any.
    if nice and sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpriority(os.PRIO_PGRP, pid, nice)
