"""Owns pids, signals and exit codes: every child of the core is started, watched and ended here.

Children are started from the event loop only, each in a session of its own with an environment built as a new
dict; each carries this run's marker, by which the guardian finds what outlives the core.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from waifu_llm.environment.model import Completed
from waifu_llm.supervision import guardian, orphans, windows_job
from waifu_llm.supervision.screen import Screen

_log = logging.getLogger(__name__)

STEP_S: Final = 2.0
TAIL_BYTES: Final = 64 * 1024
_REAP_TRIES: Final = 40
_REAP_PAUSE_S: Final = 0.05
if sys.platform == "win32":
    _CREATION_FLAGS: Final = 0x00000200  # CREATE_NEW_PROCESS_GROUP
    _KILL: Final = signal.SIGTERM
else:
    _CREATION_FLAGS: Final = 0
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

    def write(self, data: bytes) -> None:
        """Queue bytes for its standard input; never blocks; a dead child ignores them."""

    async def stop(self) -> None:
        """End it: end of input, TERM, KILL, each with a bounded wait. Cancelling it leaves the ladder where it is."""

    async def kill(self) -> None:
        """End its whole group now and wait, bounded, until it is gone."""


class _Process(asyncio.SubprocessProtocol):
    """One child process with its group, as `Child`."""

    def __init__(self, events: ChildEvents, forget: Callable[["_Process"], None]) -> None:
        self._events = events
        self._forget = forget
        self._gone = asyncio.Event()
        self._transport: asyncio.SubprocessTransport | None = None
        self.pid = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport
        self.pid = transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._events.output(data)
        else:
            self._events.errors(data)

    def process_exited(self) -> None:
        assert self._transport is not None
        self._signal_group(_KILL)
        self._gone.set()
        self._forget(self)
        # What a dying process wrote last lies in the pipe still: let the loop read it before its end is told.
        asyncio.get_running_loop().call_soon(self._tell_exit, self._transport.get_returncode() or 0)

    def _tell_exit(self, returncode: int) -> None:
        self._drain()
        self._events.exited(returncode)
        if self._transport is not None:
            self._transport.close()
            self._transport = None

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

    @property
    def runs(self) -> bool:
        return not self._gone.is_set()

    @property
    def unsent(self) -> int:
        pipe = self._input()
        return pipe.get_write_buffer_size() if pipe is not None else 0

    def write(self, data: bytes) -> None:
        pipe = self._input()
        if pipe is not None and not pipe.is_closing():
            pipe.write(data)

    def _input(self) -> asyncio.WriteTransport | None:
        pipe = self._transport.get_pipe_transport(0) if self._transport is not None else None
        assert pipe is None or isinstance(pipe, asyncio.WriteTransport)
        return pipe

    async def stop(self) -> None:
        pipe = self._input()
        if pipe is not None:
            pipe.close() if not self.unsent else pipe.abort()
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


class _Collector:
    """The output of a command that is run to its end."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._partial = b""
        self.stdout = bytearray()
        self.tail = bytearray()
        self.heard = asyncio.Event()
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def output(self, data: bytes) -> None:
        self.stdout += data
        self._keep(data)

    def errors(self, data: bytes) -> None:
        self._keep(data)
        if self._on_line is not None:
            *lines, self._partial = (self._partial + data).split(b"\n")
            for line in lines:
                self._on_line(line.decode("utf-8", "replace").rstrip("\r"))

    def drawn(self, data: bytes) -> None:
        """What the user has seen already: kept for the case that it fails."""
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        self.heard.set()
        self.tail += data
        del self.tail[:-TAIL_BYTES]

    def exited(self, returncode: int) -> None:
        self.heard.set()
        if not self.ended.done():
            self.ended.set_result(returncode)


class Processes:
    """All children of one run: its marker, its guardian, and the way to start more. An async context manager.

    `draw` writes to the user's terminal, where there is one: commands that may use it get one of their own.
    """

    def __init__(self, draw: Callable[[bytes], None] | None = None) -> None:
        self._draw = draw
        self._marker = secrets.token_hex(16)
        self._guardian: asyncio.subprocess.Process | None = None
        self._guardian_lock = asyncio.Lock()
        self._children: set[_Process] = set()
        self._starting = 0
        self._orphaned = False
        if sys.platform == "win32":
            self._job = windows_job.Job()

    async def __aenter__(self) -> Self:
        orphans.adopt()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(child.kill() for child in tuple(self._children)))
        if self._guardian is not None:
            assert self._guardian.stdin is not None
            self._guardian.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(guardian.LIMIT_S + STEP_S):
                    await self._guardian.wait()

    async def spawn(self, argv: Sequence[str], env: Mapping[str, str], events: ChildEvents) -> Child:
        """Start a worker with pipes on all three streams. Raises: OSError. Cancelling it leaves no process."""
        return await self._start(argv, env, events, asyncio.subprocess.PIPE, asyncio.subprocess.PIPE)

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        on_line: Callable[[str], None] | None = None,
        silence_s: float | None = None,
        on_terminal: bool = False,
    ) -> Completed:
        """Run one command to its end (see `environment.model.Run`)."""
        collector = _Collector(on_line)
        screen = Screen(self._draw, collector.drawn) if on_terminal and self._draw is not None else None
        with contextlib.closing(screen) if screen is not None else contextlib.nullcontext():
            stderr = asyncio.subprocess.PIPE if screen is None else screen.child_end
            child = await self._start(argv, env, collector, asyncio.subprocess.DEVNULL, stderr)
            if screen is not None:
                screen.started()
            try:
                while not collector.ended.done():
                    collector.heard.clear()
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
        self, argv: Sequence[str], env: Mapping[str, str], events: ChildEvents, stdin: int, stderr: int
    ) -> _Process:
        await self._ensure_guardian()
        starting = asyncio.ensure_future(self._exec(argv, env, events, stdin, stderr))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The process may be there by now: wait for it, then end it, or nobody would.
            with contextlib.suppress(OSError):
                await (await starting).kill()
            raise

    async def _exec(
        self, argv: Sequence[str], env: Mapping[str, str], events: ChildEvents, stdin: int, stderr: int
    ) -> _Process:
        self._starting += 1
        try:
            _, process = await asyncio.get_running_loop().subprocess_exec(
                lambda: _Process(events, self._forget),
                *argv,
                env={**env, guardian.VARIABLE: self._marker},
                stdin=stdin,
                stderr=stderr,
                start_new_session=True,
                creationflags=_CREATION_FLAGS,
            )
            if process.runs:
                self._children.add(process)
        finally:
            self._starting -= 1
            self._end_orphans()
        if sys.platform == "win32":
            self._job.add(process.pid)
        return process

    def _forget(self, process: _Process) -> None:
        self._children.discard(process)
        self._reap(process.pid)
        self._orphaned = True
        self._end_orphans()

    def _reap(self, group: int, tries: int = _REAP_TRIES) -> None:
        # What was killed needs a moment to die; for what cannot be killed nobody waits longer.
        if orphans.reap(group) and tries:
            asyncio.get_running_loop().call_later(_REAP_PAUSE_S, self._reap, group, tries - 1)

    def _end_orphans(self) -> None:
        # A child that is being started carries the marker too and is not among the known ones yet: it looks like an
        # orphan until it is, so the look at them waits for all starts.
        if self._orphaned and not self._starting:
            self._orphaned = False
            orphans.end(self._marker, keep={child.pid for child in self._children})

    async def _ensure_guardian(self) -> None:
        if sys.platform == "win32":
            return
        async with self._guardian_lock:
            if self._guardian is not None and self._guardian.returncode is None:
                return
            self._guardian = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(Path(guardian.__file__)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={"PATH": os.defpath},
                start_new_session=True,
            )
            assert self._guardian.stdin is not None and self._guardian.stdout is not None
            self._guardian.stdin.write(self._marker.encode() + b"\n")
            # Children come only when it watches: one started before could outlive a core killed in between.
            await self._guardian.stdout.readline()
