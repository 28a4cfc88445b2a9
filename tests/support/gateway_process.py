"""A real gateway process as the core starts it, driven over its pipes: the tests' fake, from a real seed."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.environments import catalog
from support.piped_process import PipedProcess, started

from waifu_llm.environment.seed import Seed
from waifu_llm.supervision.fields import gateway_options
from waifu_worker.framing import decode_from_gateway, encode
from waifu_worker.wire import FromGateway, Start

NAME = "fake_gateway"


class GatewayProcess(PipedProcess[FromGateway]):
    """One gateway."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path, data_dir: Path) -> None:
        super().__init__(process, log, decode_from_gateway)
        self._data_dir = data_dir

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
        return self.heard()


def make_gateway_seed(folder: Path) -> Path:
    """The seed of the fake gateway."""
    return Seed(catalog().find(NAME)).place(folder)


@contextmanager
def running_gateway(seed: Path, data_dir: Path) -> Iterator[GatewayProcess]:
    """Start it; killed in the end."""
    data_dir.mkdir(exist_ok=True)
    with started(seed, dict(os.environ)) as (process, log):
        yield GatewayProcess(process, log, data_dir)
