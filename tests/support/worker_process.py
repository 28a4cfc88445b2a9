"""A real worker process as the core starts it, driven over its pipes: a folder like a seed, and `python -I`."""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from support.waiting import WAIT_S

from waifu_worker.framing import LineSplitter, decode_from_worker, encode
from waifu_worker.wire import Chunk, Done, Failed, FromWorker, Ready, ToWorker

ROOT = Path(__file__).resolve().parents[2]
ECHO = ROOT / "workers" / "echo" / "waifu_echo"
FAKE = ROOT / "tests" / "fakes" / "worker" / "waifu_fake"

_MAIN = """from waifu_worker import stdio

pipes = stdio.claim()

from waifu_worker.runtime import run

run(pipes, name={name!r}, package={package!r}, abilities=("chat", "text"))
"""


def make_seed(folder: Path, package: Path) -> Path:
    """A folder that runs the worker whose import package lies at `package`."""
    folder.mkdir()
    (folder / "waifu_worker").symlink_to(ROOT / "core" / "waifu_worker", target_is_directory=True)
    (folder / package.name).symlink_to(package, target_is_directory=True)
    name = package.name.removeprefix("waifu_")
    (folder / "__main__.py").write_text(_MAIN.format(name=name, package=package.name))
    return folder


class WorkerProcess:
    """One worker. Reading blocks; the test's own time limit bounds it."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.input: BinaryIO = process.stdin  # type: ignore[assignment]  # unbuffered, so a raw FileIO
        self.output: BinaryIO = process.stdout  # type: ignore[assignment]
        self._log = log
        self._splitter = LineSplitter()
        self._lines: deque[bytes] = deque()

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return self._log.read_text("utf-8", "replace")

    def send(self, *messages: ToWorker) -> None:
        """All in one write."""
        data = memoryview(b"".join(map(encode, messages)))
        while data:
            data = data[self.input.write(data) :]

    def next(self) -> FromWorker:
        """The next message."""
        while not self._lines:
            data = self.output.read(1 << 20)
            assert data, f"it ended: {self.stderr[-2000:]}"
            self._lines.extend(self._splitter.feed(data))
        return decode_from_worker(self._lines.popleft())

    def until_end(self, request_id: int) -> tuple[str, Done | Failed]:
        """The text of one request up to its end; other requests' messages are an error."""
        text = ""
        while True:
            match self.next():
                case Chunk(id=one, texts=pieces) if one == request_id:
                    text += "".join(pieces)
                case (Done(id=one) | Failed(id=one)) as end if one == request_id:
                    return text, end
                case other:
                    raise AssertionError(f"unexpected: {other}")

    def wait(self) -> int:
        """Its exit code, negative for a signal."""
        return self.process.wait(WAIT_S)


@contextmanager
def running(seed: Path, *, env: Mapping[str, str] | None = None, ready: bool = True) -> Iterator[WorkerProcess]:
    """Start it; it and its group are killed in the end."""
    with started(seed, env) as (process, log):
        worker = WorkerProcess(process, log)
        if ready:
            first = worker.next()
            assert isinstance(first, Ready), first
        yield worker


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
