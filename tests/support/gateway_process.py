"""A real gateway process as the core starts it, driven over its pipes: the tests' fake, from a real seed."""

import os
import subprocess
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from support.environments import catalog
from support.waiting import WAIT_S
from support.worker_process import started

from waifu_llm.environment.seed import Seed
from waifu_llm.supervision.fields import gateway_options
from waifu_worker.framing import LineSplitter, decode_from_gateway, encode
from waifu_worker.wire import FromGateway, Start

NAME = "fake_gateway"


class GatewayProcess:
    """One gateway. Reading blocks; the test's own time limit bounds it."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path, data_dir: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.input: BinaryIO = process.stdin  # type: ignore[assignment]  # unbuffered, so a raw FileIO
        self.output: BinaryIO = process.stdout  # type: ignore[assignment]
        self._log = log
        self._data_dir = data_dir
        self._splitter = LineSplitter()
        self._lines: deque[bytes] = deque()

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return self._log.read_text("utf-8", "replace")

    def start(self, **options: object) -> None:
        """Send its start line."""
        self.input.write(encode(self.line(**options)))

    def line(self, **options: object) -> Start:
        """The start line with these options, and the manifest's defaults."""
        settings = gateway_options(catalog().find(NAME), options)
        return Start(
            url="ws://127.0.0.1:1", token="t", settings=settings, data_dir=str(self._data_dir), log_level="info"
        )

    def next(self) -> FromGateway | None:
        """The next message; None where there comes none any more."""
        while not self._lines:
            data = self.output.read(1 << 20)
            if not data:
                return None
            self._lines.extend(self._splitter.feed(data))
        return decode_from_gateway(self._lines.popleft())

    def wait(self) -> int:
        """Its exit code, negative for a signal."""
        return self.process.wait(WAIT_S)


def make_gateway_seed(folder: Path) -> Path:
    """The seed of the fake gateway."""
    return Seed(catalog().find(NAME)).place(folder)


@contextmanager
def running_gateway(seed: Path, data_dir: Path) -> Iterator[GatewayProcess]:
    """Start it; killed in the end."""
    data_dir.mkdir(exist_ok=True)
    with started(seed, dict(os.environ)) as (process, log):
        yield GatewayProcess(process, log, data_dir)
