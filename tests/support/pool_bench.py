"""A pool whose processes are in memory and whose clock is the test's."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace
from support.fake_machine import FakeMachine
from support.fake_process import FakeSpawn
from support.waiting import bounded

from waifu_llm.catalog import Catalog, Declaration, Key, KeyNeed, Manifest, Option
from waifu_llm.config import LimitSettings, ServerSettings, Settings, WorkerSettings
from waifu_llm.environment.model import BuildProgress, Environment, EnvironmentState, EnvironmentStatus
from waifu_llm.paths import Home
from waifu_llm.redaction import Redactor
from waifu_llm.stats import Statistics
from waifu_llm.supervision.jobs import Ending, Job, LoadFields
from waifu_llm.supervision.pool import Pool, PoolMeans
from waifu_llm.supervision.prewarming import Memory
from waifu_worker.wire import Params

FAKE = Manifest(
    "fake",
    Path("fake"),
    "1.0",
    "nobody",
    Declaration(
        kind="worker",
        title="Fake",
        description="",
        homepage="",
        category="local",
        package="waifu_fake",
        key=Key(KeyNeed.OPTIONAL, ("FAKE_API_KEY",)),
        options={
            "base_url": Option("url", "where", default="http://127.0.0.1", identity=True),
            "num_ctx": Option("integer", "size", default=1),
        },
    ),
)

GATE = Manifest(
    "gate",
    Path("gate"),
    "1.0",
    "nobody",
    Declaration(
        kind="gateway",
        title="Gate",
        description="",
        homepage="",
        category="local",
        package="waifu_gate",
        options={
            "port": Option("integer", "where", default=9600),
            "token_file": Option("path", "a file with a token"),
        },
    ),
)


class FakeEnvironments:
    """Environments that are there at once, unless the test holds them back or lets them fail."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.asked = asyncio.Event()
        self.count = 0
        self.error: Exception | None = None
        self.state = EnvironmentState.READY

    def status(self, manifest: Manifest) -> EnvironmentStatus:
        return EnvironmentStatus(manifest.name, self.state, Path("env"))

    async def ensure(self, manifest: Manifest, on_progress: Callable[[BuildProgress], None]) -> Environment:
        self.count += 1
        self.asked.set()
        if not self.ready.is_set():
            on_progress(BuildProgress("installing", 0.5))
            await self.ready.wait()
        if self.error is not None:
            raise self.error
        return Environment(manifest.name, Path("env"), Path("env") / manifest.name / "python", Path("seed"))


@dataclass
class RecordingSink:
    """What a generation told its client."""

    text: list[str] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def chunks(self, texts: Sequence[str]) -> None:
        assert not self.endings, "a chunk after the end"
        self.text += texts
        self.told.set()

    def ended(self, ending: Ending) -> None:
        self.endings.append(ending)
        self.over.set()

    async def ending(self) -> Ending:
        async with bounded():
            await self.over.wait()
        assert len(self.endings) == 1
        return self.endings[0]


@dataclass
class Bench:
    """A pool and the test's handles on what it works with."""

    pool: Pool
    spawn: FakeSpawn
    environments: FakeEnvironments
    statistics: Statistics
    redactor: Redactor
    folder: Path
    machine: FakeMachine

    def fields(self, **fields: object) -> LoadFields:
        api_key = fields.pop("api_key", None)
        preload = fields.pop("preload_model_id", None)
        assert api_key is None or isinstance(api_key, str)
        assert preload is None or isinstance(preload, str)
        return LoadFields("fake", api_key, preload, fields)


def job(prompt: str = "hi", *, deadline: float | None = None) -> Job:
    return Job(Params(model_id="m"), (), prompt, stream=True, deadline=deadline, size=len(prompt))


MakeBench = Callable[..., Bench]


def make(
    folder: Path,
    limits: LimitSettings | None = None,
    own_key: str | None = None,
    find_key: Callable[[], str] | None = None,
    gateways: dict[str, dict[str, object]] | None = None,
    token: str | None = None,
    server: ServerSettings | None = None,
    providers: Sequence[str] = ("fake",),
    key: KeyNeed = KeyNeed.OPTIONAL,
    key_at_hand: str | None = None,
    last_used: Memory | None = None,
    **workers: float | bool | tuple[str, ...],
) -> Bench:
    """A pool whose files lie in `folder`; `workers` are settings of `[workers]`.

    With `gateways`, tables of `[gateway]`, there is the gateway gate too.
    """
    declared = replace(FAKE.declared, key=Key(key, ("FAKE_API_KEY",)))
    manifests = {name: replace(FAKE, name=name, declared=declared) for name in providers}
    settings = Settings(
        limits=limits or LimitSettings(),
        workers=WorkerSettings(**workers),  # type: ignore[arg-type]
        gateway=gateways or {},
        token=token,
        server=server or ServerSettings(),
    )
    spawn, environments, statistics, redactor = FakeSpawn(), FakeEnvironments(), Statistics(), Redactor()
    machine = FakeMachine()
    means = PoolMeans(
        catalog=Catalog(manifests if gateways is None else {**manifests, "gate": GATE}, {}),
        home=Home(folder),
        environments=environments,
        spawn=spawn,
        environ={"PATH": "/bin", "FAKE_API_KEY": "never"},
        own_key=lambda manifest: own_key if find_key is None else find_key(),
        has_key=lambda manifest: own_key is not None,
        redactor=redactor,
        statistics=statistics,
        key_at_hand=lambda manifest: key_at_hand,
        last_used=last_used,
        weigh=machine.weigh,
    )
    return Bench(Pool(settings, means), spawn, environments, statistics, redactor, folder, machine)
