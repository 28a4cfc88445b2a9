"""What the rest of the module sees of environments: their states, a finished one, progress, and how to run uv."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import msgspec


class EnvironmentState(StrEnum):
    """Computed from disk and never stored."""

    MISSING = "missing"
    STALE = "stale"
    BROKEN = "broken"
    READY = "ready"


class EnvironmentStatus(msgspec.Struct, frozen=True):
    """The state of one worker's environment; `problem` is a sentence where it is broken."""

    name: str
    state: EnvironmentState
    folder: Path
    problem: str | None = None


class Environment(msgspec.Struct, frozen=True):
    """A finished environment and the seed to run in it: `<python> -I <seed>` is the worker."""

    name: str
    folder: Path
    python: Path
    seed: Path


class Estimate(msgspec.Struct, frozen=True):
    """What an install takes at most: the download in megabytes, and bytes on the disk against what is free there."""

    download_mb: float
    needed_bytes: int
    free_bytes: int


class Size(msgspec.Struct, frozen=True):
    """Bytes on disk: `own` would be free without the folder, `shared` belong to others too, by hard links."""

    own: int = 0
    shared: int = 0

    def __add__(self, other: "Size") -> "Size":
        return Size(self.own + other.own, self.shared + other.shared)


class Installed(msgspec.Struct, frozen=True):
    """An environment folder as it lies on the disk, whether anybody still needs it or not."""

    name: str
    folder: Path


class Removal(msgspec.Struct, frozen=True):
    """What became of a folder that was to go: removed, giving `freed` bytes, or `kept` for a reason (a sentence)."""

    folder: Path
    freed: int = 0
    kept: str | None = None


class BuildProgress(msgspec.Struct, frozen=True):
    """How far a build is; `fraction` 0..1, or None where it is not known."""

    detail: str
    fraction: float | None = None


class Completed(msgspec.Struct, frozen=True):
    """How a child that was run to its end ended. `tail`: its last lines, both streams, at most 64 KiB."""

    returncode: int
    stdout: str
    tail: str


class Run(Protocol):
    """Runs one command to its end; `supervision.process` implements it, tests pass their own."""

    async def __call__(
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
        """Input is the null device; with `until_line` a pipe, whose end ends it once it has written a line, or 64 KiB
        that are none, and what it writes from then on is no part of `stdout`.

        `on_line` gets each line of stderr as it comes. With `on_terminal` its stderr may be drawn on the user's
        terminal, where the runner has one; with `nice` over 0 it gets less CPU time than others while there is too
        little.

        Raises: TimeoutError where neither stream gave a line for `silence_s`; OSError where it cannot start.
        Cancelling it kills the whole process group and waits for its end.
        """
        ...
