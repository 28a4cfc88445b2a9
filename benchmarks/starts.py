"""Fresh processes: how soon they serve, how soon a provider is loaded, and what memory they and idle clients take."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.children import cpu_s, program, resident_bytes, running, started, tree_cpu_s, users_environment
from benchmarks.load_generator import PATIENCE_S, Client, clients
from benchmarks.measured import Measured, Sizes
from benchmarks.subject import API_KEY, PROVIDER, ProductHome, Subject, product_home, served

# Nothing listens there: whoever asks the network is refused at once.
_NOWHERE: Final = "http://127.0.0.1:9"
NO_NETWORK: Final = dict.fromkeys(
    ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), _NOWHERE
)
# What a start still does after it has said that it is done, and until it has read what nobody has needed yet.
_SETTLE_S: Final = 0.5
_CAUGHT_UP_S: Final = 2.0


async def product(home: ProductHome, sizes: Sizes) -> Measured:
    """The product, its environment ready."""
    with served(home) as module:
        listening_s, start_cpu_s = module.listening_s, cpu_s(module.core)
        client = await Client.open(module.url)
        cold_s = await client.load(PROVIDER, API_KEY)
        load_cpu_s = cpu_s(module.core) - start_cpu_s + cpu_s(module.worker())
        warm_s = [await client.load(PROVIDER, API_KEY) for _ in range(sizes.loads)]
        await asyncio.sleep(_SETTLE_S)
        worker = resident_bytes(module.worker())
        stray = +(await client.finished([]))
        client.close()
    with served(home) as module:
        await asyncio.sleep(_CAUGHT_UP_S)
        idle = resident_bytes(module.core)
        connection_kb = await _per_connection(module.url, module.core, sizes.idle)
    with served(home, "--prewarm", PROVIDER, extra={"OPENAI_API_KEY": API_KEY}) as warm:
        await asyncio.sleep(_CAUGHT_UP_S)
        await _quiet(warm)
        async with clients(warm.url, 1) as (client,):
            prewarmed_s = await client.load(PROVIDER, API_KEY)
    values = {
        "start.listening": listening_s * 1e3,
        "start.cpu": start_cpu_s * 1e3,
        "load.cold": cold_s * 1e3,
        "load.cpu": load_cpu_s * 1e3,
        "load.warm": median(warm_s) * 1e3,
        "load.prewarmed": prewarmed_s * 1e3,
        "memory.core": idle / 1e6,
        "memory.worker": worker / 1e6,
        "memory.connection": connection_kb,
    }
    return Measured(values, stray)


async def bare(upstream: str, relay: str, sizes: Sizes) -> Measured:
    """A bare server and a bare worker; the warm load is the bare relay's."""
    begun = time.perf_counter()
    with running("benchmarks.bare.server") as (process, url):
        listening_s = time.perf_counter() - begun
        start_cpu_s = cpu_s(process.pid)
        await asyncio.sleep(_SETTLE_S)
        idle = resident_bytes(process.pid)
        connection_kb = await _per_connection(url, process.pid, sizes.idle)
    begun = time.perf_counter()
    with running("benchmarks.bare.worker", upstream) as (process, _):
        cold_s = time.perf_counter() - begun
        load_cpu_s = cpu_s(process.pid)
        worker = resident_bytes(process.pid)
    async with clients(relay, 1) as (client,):
        warm_s = [await client.load(PROVIDER, API_KEY) for _ in range(sizes.loads)]
    values = {
        "start.listening": listening_s * 1e3,
        "start.cpu": start_cpu_s * 1e3,
        "load.cold": cold_s * 1e3,
        "load.cpu": load_cpu_s * 1e3,
        "load.warm": median(warm_s) * 1e3,
        "load.prewarmed": warm_s[0] * 1e3,
        "memory.core": idle / 1e6,
        "memory.worker": worker / 1e6,
        "memory.connection": connection_kb,
    }
    return Measured(values)


def python() -> Measured:
    """What Python itself takes to start and end."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], env=users_environment(), check=True)
    return Measured({"start.listening": (time.perf_counter() - begun) * 1e3})


async def first_load(upstream_port: int) -> Measured:
    """The product in a home that is empty, with uv's cache full and no network."""
    with product_home(upstream_port) as home, served(home, extra=NO_NETWORK) as module:
        client = await Client.open(module.url)
        cpu_before_s = tree_cpu_s(module.core)
        took_s = await client.load(PROVIDER, API_KEY)
        cpu_taken_s = tree_cpu_s(module.core) - cpu_before_s
        stray = +(await client.finished([]))
        client.close()
    return Measured({"load.first": took_s * 1e3, "load.first_cpu": cpu_taken_s * 1e3}, stray)


def bare_first_load(lock: Path, upstream: str) -> Measured:
    """The least that it takes: an environment made by uv, and a bare worker's first start in it."""
    uv = str(Path(sys.executable).with_name("uv"))
    env = users_environment({**NO_NETWORK, "UV_NO_CONFIG": "1"})
    with _empty_folder() as folder:
        python = folder / "bin" / "python"
        begun, cpu_before_s = time.perf_counter(), tree_cpu_s(os.getpid())
        for command in (
            [uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)],
            [uv, "pip", "sync", "--quiet", "--python", str(python), "--require-hashes", "--offline", str(lock)],
        ):
            subprocess.run(command, env=env, stdin=subprocess.DEVNULL, check=True)
        argv, worker_env = program("benchmarks.bare.worker", upstream)
        with started([str(python), *argv[1:]], worker_env):
            took_s, cpu_taken_s = time.perf_counter() - begun, tree_cpu_s(os.getpid()) - cpu_before_s
    return Measured({"load.first": took_s * 1e3, "load.first_cpu": cpu_taken_s * 1e3})


async def _quiet(module: Subject) -> None:
    """Its worker is there and does nothing any more."""
    before = -1.0
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(LookupError):
                now = cpu_s(module.worker())
                if now == before:
                    return
                before = now
            await asyncio.sleep(_SETTLE_S)


@contextmanager
def _empty_folder() -> Iterator[Path]:
    with product_home(0) as home:
        yield home.folder / "environment"


async def _per_connection(url: str, pid: int, count: int) -> float:
    """Memory of each of so many connections that do nothing, in KB."""
    # The first brings what all of them share.
    async with clients(url, 1):
        before = resident_bytes(pid)
        async with clients(url, count):
            await asyncio.sleep(_SETTLE_S)
            return (resident_bytes(pid) - before) / 1e3 / count
