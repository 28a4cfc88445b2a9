"""What is measured: the product, or the bare pieces that are its limit, as clients and the system see them."""

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from benchmarks.children import ROOT, end, start, users_environment

PROVIDER: Final = "openai"
API_KEY: Final = "sk-benchmark-0123456789abcdef"
BUILD: Final = ROOT / "build" / "benchmarks"
_COMPILED: Final = "waifu-llm-compiled"
_COMPILE_S: Final = 30.0
_LOOK_AGAIN_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that clients connect to, and the pid of what relays."""

    url: str
    core: int

    def worker(self) -> int:
        """The pid of the worker, once it is there. Raises: LookupError."""
        for child in psutil.Process(self.core).children(recursive=True):
            command = " ".join(child.cmdline())
            if "/seed/" in command or "benchmarks.bare.worker" in command:
                return child.pid
        raise LookupError("there is no worker")


class ProductHome:
    """A home of the product with the provider set up to read from a fake service."""

    def __init__(self, folder: Path, upstream_port: int) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = f'[provider.{PROVIDER}]\nbase_url = "http://127.0.0.1:{upstream_port}/v1"\n'
        (folder / "waifu-llm.toml").write_text(config, "utf-8")

    def environment(self, extra: Mapping[str, str] = {}) -> dict[str, str]:
        """The variables of a user whose home this is."""
        return users_environment({"WAIFU_LLM_HOME": str(self.folder), **extra})

    def install(self) -> None:
        """Build the provider's environment, as a user does beforehand. Raises: RuntimeError with what it said."""
        argv = [waifu_llm(), "install", "--yes", PROVIDER]
        done = subprocess.run(
            argv, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False
        )
        if done.returncode:
            raise RuntimeError(f"{PROVIDER} could not be installed: {done.stderr}")

    @property
    def lock(self) -> Path:
        """The list of packages of the provider's environment."""
        return ROOT / "workers" / PROVIDER / "requirements.lock"

    @property
    def worker_python(self) -> Path:
        """The Python of the provider's environment."""
        return next(self.folder.glob(f"envs/{PROVIDER}-*/bin/python"))

    def wait_until_compiled(self) -> bool:
        """What a first start began in the background is done; whether it is."""
        deadline = time.monotonic() + _COMPILE_S
        while not any(self.folder.glob(f"envs/{PROVIDER}-*/{_COMPILED}")):
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_AGAIN_S)
        return True


@dataclass(frozen=True, slots=True)
class Served(Subject):
    """`waifu-llm serve`. `listening_s`: from its start until it said that it listens."""

    listening_s: float


@contextmanager
def served(home: ProductHome, *flags: str, extra: Mapping[str, str] = {}) -> Iterator[Served]:
    """The product as a user starts it, with everything on, these flags and variables; stopped with the block."""
    errors = home.folder / "stderr"
    begun = time.perf_counter()
    process = start([waifu_llm(), "serve", "--port", "0", *flags], home.environment(extra), errors)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - begun
        found = re.search(r"ws://\S+", line)
        assert found is not None, f"it did not start: {line}{errors.read_text('utf-8', 'replace')[-2000:]}"
        yield Served(found[0], process.pid, took)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        end(process)


@contextmanager
def product_home(upstream_port: int) -> Iterator[ProductHome]:
    """An empty home beside the project's other builds, removed with the block."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="home-", dir=BUILD, ignore_cleanup_errors=True) as folder:
        yield ProductHome(Path(folder), upstream_port)


def waifu_llm() -> str:
    """The command as it is installed beside this Python."""
    return str(Path(sys.executable).with_name("waifu-llm"))
