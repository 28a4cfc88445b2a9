"""The gateways of a pool: which are started, what they are told, and what can be told of them."""

import asyncio
import logging
import sys

import pytest
from support.fake_process import FakeProcess
from support.pool_bench import Bench, MakeBench
from support.waiting import bounded

from waifu_client.protocol import EnvironmentStats
from waifu_llm.environment.model import EnvironmentState
from waifu_llm.errors import Closing
from waifu_llm.supervision.state import WorkerState
from waifu_worker import wire

URL = "ws://127.0.0.1:7562"
ADDRESS = "http://localhost:9600"
READY = wire.GatewayReady(magic=wire.MAGIC, wire=wire.WIRE_VERSION, name="gate", address=ADDRESS)
ENABLED: dict[str, dict[str, object]] = {"gate": {"enabled": True, "port": 0}}


async def ready(bench: Bench) -> FakeProcess:
    """Start the gateways of this pool; the process of its one."""
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    bench.pool.start_gateways(URL, lambda *told: heard.put_nowait(told))
    process = await bench.spawn.next_process()
    await process.next_sent(wire.Start)
    process.say(READY)
    async with bounded():
        assert await heard.get() == ("gate", ADDRESS)
    return process


def nobody(name: str, address: str) -> None:
    raise AssertionError(f"{name} listens at {address}")


async def test_a_gateway_is_told_where_the_module_is_its_options_and_its_own_folder(make_bench: MakeBench) -> None:
    bench = make_bench(gateways=ENABLED)
    bench.pool.start_gateways(URL, nobody)
    process = await bench.spawn.next_process()
    start = await process.next_sent(wire.Start)
    assert start.token == bench.pool.gateway_token
    folder = bench.folder / "data" / "gate"
    assert (start.url, start.settings) == (URL, {"port": 0, "token_file": None})
    assert (start.data_dir, start.log_level) == (str(folder), "info")
    assert folder.is_dir()
    if sys.platform != "win32":
        assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o700, 0o700]
    assert "FAKE_API_KEY" not in process.env


async def test_the_token_is_new_for_each_run_and_known_to_the_redactor(make_bench: MakeBench) -> None:
    tokens = set()
    for _ in range(2):
        bench = make_bench(gateways=ENABLED)
        token = bench.pool.gateway_token
        assert token is not None
        assert len(token) >= 32
        assert bench.redactor.scrub(f"<{token}>") == "<[redacted]>"
        tokens.add(token)
    assert len(tokens) == 2


@pytest.mark.parametrize("table", [{}, {"gate": {}}, {"gate": {"enabled": False}}])
async def test_one_that_is_not_enabled_is_not_started_and_there_is_no_token(
    make_bench: MakeBench, table: dict[str, dict[str, object]]
) -> None:
    bench = make_bench(gateways=table)
    bench.pool.start_gateways(URL, nobody)
    await asyncio.sleep(0)
    assert bench.pool.gateway_token is None
    assert (bench.environments.count, bench.spawn.count) == (0, 0)
    assert bench.pool.workers() == []


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"gate": {"enabled": True, "port": "x"}}, "gateway.gate.port must be of the type integer"),
        ({"gaet": {"enabled": True}}, "there is no 'gaet'"),
        ({"fake": {"enabled": True}}, "fake is a provider, not a gateway"),
    ],
)
async def test_one_that_cannot_be_told_what_to_do_is_a_line_in_the_log_and_keeps_nobody(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture, table: dict[str, dict[str, object]], said: str
) -> None:
    bench = make_bench(gateways=table)
    bench.pool.start_gateways(URL, nobody)
    assert said in caplog.text
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "c"))
    await bench.spawn.loaded()
    async with bounded():
        await task


@pytest.mark.parametrize(
    ("token", "table", "warns"),
    [("secret-of-mine", {}, True), (None, {}, False), ("secret-of-mine", {"token_file": "/a/file"}, False)],
)
async def test_an_open_gateway_before_a_guarded_module_is_warned_of(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture, token: str | None, table: dict[str, object], warns: bool
) -> None:
    bench = make_bench(gateways={"gate": {"enabled": True, **table}}, token=token)
    bench.pool.start_gateways(URL, nobody)
    assert ("gateway.gate.token_file" in caplog.text) == warns


async def test_stats_tell_of_a_gateway_and_of_its_environment(make_bench: MakeBench) -> None:
    bench = make_bench(gateways=ENABLED)
    process = await ready(bench)
    (row,) = bench.pool.workers()
    assert (row.provider, row.kind, row.state, row.address) == ("gate", "gateway", "ready", ADDRESS)
    assert (row.pid, row.running, row.queued) == (process.pid, 0, 0)
    assert bench.pool.environments() == [EnvironmentStats("fake", "ready"), EnvironmentStats("gate", "ready")]


async def test_a_worker_is_a_worker_in_the_stats(bench: Bench) -> None:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "c"))
    await bench.spawn.loaded()
    async with bounded():
        await task
    (row,) = bench.pool.workers()
    assert (row.kind, row.address) == ("worker", None)


async def test_the_environment_of_a_gateway_nobody_wants_is_not_told_of(make_bench: MakeBench) -> None:
    bench = make_bench(gateways={})
    bench.environments.state = EnvironmentState.MISSING
    assert bench.pool.environments() == [EnvironmentStats("fake", "missing")]
    bench = make_bench(gateways=ENABLED)
    bench.environments.state = EnvironmentState.MISSING
    assert bench.pool.environments()[-1] == EnvironmentStats("gate", "missing")
    bench = make_bench(gateways={})
    bench.environments.state = EnvironmentState.STALE
    assert bench.pool.environments()[-1] == EnvironmentStats("gate", "stale")


async def test_a_gateway_is_no_provider(make_bench: MakeBench) -> None:
    bench = make_bench(gateways=ENABLED)
    await ready(bench)
    assert set(bench.pool.providers()) == {"fake"}


async def test_the_death_of_a_gateway_leaves_the_workers_alone(make_bench: MakeBench) -> None:
    bench = make_bench(gateways=ENABLED)
    gateway = await ready(bench)
    task = asyncio.ensure_future(bench.pool.load(bench.fields(), "c"))
    worker = await bench.spawn.loaded()
    async with bounded():
        await task
    gateway.exit(-9)
    again = await bench.spawn.next_process()
    await again.next_sent(wire.Start)
    assert (worker.stops, worker.kills) == (0, 0)
    states = {row.provider: row.state for row in bench.pool.workers()}
    assert states == {"fake": WorkerState.READY, "gate": WorkerState.STARTING}


async def test_closing_the_pool_stops_its_gateways(make_bench: MakeBench) -> None:
    bench = make_bench(gateways=ENABLED)
    process = await ready(bench)
    async with bounded():
        await bench.pool.close()
    assert (process.stops, process.kills) == (1, 0)


async def test_a_build_that_ends_since_the_module_stops_is_no_failure(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench(gateways=ENABLED)
    bench.environments.ready.clear()
    bench.pool.start_gateways(URL, nobody)
    async with bounded():
        await bench.environments.asked.wait()
        closing = asyncio.ensure_future(bench.pool.close())
        await asyncio.sleep(0)
        bench.environments.error = Closing("the module stops")
        bench.environments.ready.set()
        await closing
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert bench.spawn.count == 0
