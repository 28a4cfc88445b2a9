"""A pool over real processes that run `raw_worker`: started in a moment, since nothing is installed for them."""

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from support import raw_worker
from support.pool_bench import FAKE, RecordingSink, job
from support.waiting import bounded

from waifu_llm.catalog import Catalog, Manifest
from waifu_llm.config import Settings, WorkerSettings
from waifu_llm.environment.model import BuildProgress, Environment, EnvironmentState, EnvironmentStatus
from waifu_llm.paths import Home
from waifu_llm.redaction import Redactor
from waifu_llm.stats import Statistics
from waifu_llm.supervision.jobs import Loaded, LoadFields
from waifu_llm.supervision.pool import Pool, PoolMeans
from waifu_llm.supervision.process import Processes

SCRIPT = Path(raw_worker.__file__)


class _Environments:
    def status(self, manifest: Manifest) -> EnvironmentStatus:
        return EnvironmentStatus(manifest.name, EnvironmentState.READY, SCRIPT.parent)

    async def ensure(self, manifest: Manifest, on_progress: Callable[[BuildProgress], None]) -> Environment:
        return Environment(manifest.name, SCRIPT.parent, Path(sys.executable), SCRIPT)


class RawPool:
    """The pool, and how its workers are asked."""

    def __init__(self, pool: Pool, log: Path) -> None:
        self.pool = pool
        self.log = log

    async def load(self, connection: object = "c", **options: object) -> Loaded:
        """`options` are those of the script; each connection has a worker of its own."""
        fields = LoadFields("fake", f"key-of-the-connection-{connection}", json.dumps(options), {})
        async with bounded():
            return await self.pool.load(fields, connection)

    def generate(self, loaded: Loaded, connection: object = "c", **asked: object) -> RecordingSink:
        """Ask for an answer."""
        sink = RecordingSink()
        self.pool.generate(loaded, job(json.dumps(asked)), connection, sink)
        return sink


@asynccontextmanager
async def raw_pool(folder: Path, **workers: float) -> AsyncIterator[RawPool]:
    """`workers`: settings of `[workers]`."""
    settings = Settings(workers=WorkerSettings(**workers))  # type: ignore[arg-type]
    async with Processes() as processes:
        means = PoolMeans(
            catalog=Catalog({"fake": FAKE}, {}),
            home=Home(folder),
            environments=_Environments(),
            spawn=processes.spawn,
            environ={"PATH": os.environ.get("PATH", os.defpath)},
            own_key=lambda manifest: None,
            has_key=lambda manifest: False,
            redactor=Redactor(),
            statistics=Statistics(),
        )
        pool = Pool(settings, means)
        try:
            yield RawPool(pool, Home(folder).logs / "fake.log")
        finally:
            await pool.close()
