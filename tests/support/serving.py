"""A real server over a fake pool, for the time of a test."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
from support.fake_pool import FakePool

from waifu_llm.config import LimitSettings, ServerSettings, Settings
from waifu_llm.redaction import Redactor
from waifu_llm.server import Server
from waifu_llm.server.server import Timing
from waifu_llm.stats import Statistics


@dataclass(frozen=True)
class Serving:
    server: Server
    pool: FakePool
    statistics: Statistics
    redactor: Redactor
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"ws://{self.host}:{self.port}"


@contextlib.asynccontextmanager
async def serving(
    pool: FakePool | None = None,
    *,
    server: ServerSettings | None = None,
    limits: LimitSettings | None = None,
    token: str | None = None,
    gateway_token: str | None = None,
    timing: Timing | None = None,
) -> AsyncIterator[Serving]:
    """Listens on a free port; drained at the end."""
    pool = pool or FakePool()
    settings = Settings(
        server=msgspec.structs.replace(server or ServerSettings(), port=0),
        limits=limits or LimitSettings(),
        token=token,
    )
    statistics, redactor = Statistics(), Redactor()
    running = Server(pool, settings, statistics, redactor, gateway_token, timing)
    host, port = await running.start()
    try:
        yield Serving(running, pool, statistics, redactor, host, port)
    finally:
        await running.drain()
