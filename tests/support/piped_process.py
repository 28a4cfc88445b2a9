"""A process of ours on the other side of the wire, read by a test that blocks; the test's own time limit bounds it."""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from support.waiting import WAIT_S

from waifu_worker.framing import LineSplitter

M = TypeVar("M")


class PipedProcess(Generic[M]):
    """What it says, message by message."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path, decode: Callable[[bytes], M]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.input: BinaryIO = process.stdin  # type: ignore[assignment]  # unbuffered, so a raw FileIO
        self.output: BinaryIO = process.stdout  # type: ignore[assignment]
        self._log = log
        self._decode = decode
        self._splitter = LineSplitter()
        self._lines: deque[bytes] = deque()

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return self._log.read_text("utf-8", "replace")

    def heard(self) -> M | None:
        """The next message; None where there comes none any more."""
        while not self._lines:
            data = self.output.read(1 << 20)
            if not data:
                return None
            self._lines.extend(self._splitter.feed(data))
        return self._decode(self._lines.popleft())

    def wait(self) -> int:
        """Its exit code, negative for a signal."""
        return self.process.wait(WAIT_S)


@contextmanager
def started(seed: Path, env: Mapping[str, str] | None = None) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """The process that runs a seed, and the file with its stderr; killed in the end."""
    log = seed.with_suffix(".log")
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-I", str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            bufsize=0,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
