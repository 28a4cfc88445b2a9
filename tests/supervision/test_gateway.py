"""One gateway's life from the core's side, its process played by the test and its clock set by it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.fake_clock import FakeClock
from support.fake_machine import FakeMachine
from support.fake_process import FakeProcess, FakeSpawn
from support.pool_bench import GATE, FakeEnvironments
from support.waiting import bounded, until

from waifu_llm.config import WorkerSettings
from waifu_llm.environment.model import BuildProgress, Environment
from waifu_llm.errors import InstallFailed
from waifu_llm.log import WorkerLog
from waifu_llm.redaction import Redactor
from waifu_llm.supervision.afterwards import Afterwards
from waifu_llm.supervision.gateway import Gateway, is_address
from waifu_llm.supervision.jobs import LoadProgress
from waifu_llm.supervision.life import SILENCE_S, WATCH_INTERVAL_S, OnProgress, Recipe
from waifu_llm.supervision.scales import Scales
from waifu_llm.supervision.state import WorkerState
from waifu_worker import wire

TOKEN = "canary-0123456789abcdef0123456789"
ADDRESS = "http://localhost:9600"
START = wire.Start(url="ws://127.0.0.1:7562", token=TOKEN, settings={"port": 9600}, data_dir="data", log_level="info")
READY = wire.GatewayReady(magic=wire.MAGIC, wire=wire.WIRE_VERSION, name="gate", address=ADDRESS)


@dataclass
class Bench:
    gateway: Gateway
    spawn: FakeSpawn
    clock: FakeClock
    environments: FakeEnvironments
    log: WorkerLog
    heard: asyncio.Queue[tuple[str, str]] = field(default_factory=asyncio.Queue)

    async def ready(self, address: str = ADDRESS) -> FakeProcess:
        """The next process, which greets."""
        process = await self.started()
        process.say(wire.GatewayReady(magic=wire.MAGIC, wire=wire.WIRE_VERSION, name="gate", address=address))
        async with bounded():
            assert await self.heard.get() == ("gate", address)
        return process

    async def started(self) -> FakeProcess:
        """The next process, which has its start line."""
        process = await self.spawn.next_process()
        assert await process.next_sent(wire.Start) == START
        return process

    async def becomes(self, state: WorkerState) -> None:
        await until(lambda: self.gateway.state is state, f"it is {state}")


MakeBench = Callable[..., Bench]


@pytest.fixture
async def make(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[MakeBench]:
    caplog.set_level(logging.INFO)
    made: list[Bench] = []
    # What the test changes before its first await is there when the gateway begins.

    def make_one(**workers: float) -> Bench:
        environments, spawn, clock, redactor = FakeEnvironments(), FakeSpawn(), FakeClock(), Redactor()
        redactor.add(TOKEN)
        log = WorkerLog(tmp_path / "gate.log", redactor)

        async def prepare(manifest: object, on_progress: OnProgress) -> Environment:
            def relay(progress: BuildProgress) -> None:
                on_progress(LoadProgress("environment", progress.detail, progress.fraction))

            return await environments.ensure(GATE, relay)

        settings = WorkerSettings(**workers)  # type: ignore[arg-type]
        recipe = Recipe(
            GATE, prepare, spawn, {"PATH": "/bin"}, settings, log, Scales(0, FakeMachine().weigh), Afterwards()
        )
        bench = Bench(None, spawn, clock, environments, log)  # type: ignore[arg-type]
        bench.gateway = Gateway(recipe, START, lambda *heard: bench.heard.put_nowait(heard), clock)
        made.append(bench)
        bench.gateway.begin()
        return bench

    yield make_one
    for bench in made:
        async with bounded():
            await bench.gateway.stop()
        assert bench.clock.pending == []


@pytest.fixture
async def bench(make: MakeBench) -> Bench:
    return make()


async def test_it_is_started_told_its_line_and_announced_once_it_greets(bench: Bench) -> None:
    process = await bench.started()
    assert process.argv == ["env/gate/python", "-I", "seed"]
    assert TOKEN not in str(process.argv) + str(process.env)
    assert bench.gateway.state is WorkerState.STARTING
    assert bench.gateway.stats().address is None
    process.say(READY)
    async with bounded():
        assert await bench.heard.get() == ("gate", ADDRESS)
    stats = bench.gateway.stats()
    assert (stats.provider, stats.kind, stats.state, stats.address) == ("gate", "gateway", "ready", ADDRESS)
    assert (stats.pid, stats.restarts, stats.uptime_s) == (process.pid, 0, 0.0)


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        ({"magic": "other"}, "greeted as 'other'"),
        ({"wire": 99}, "wire version 99"),
        ({"name": "another"}, "'another'"),
        ({"address": ""}, "which is no address"),
        ({"address": "http://x\ny"}, "which is no address"),
    ],
)
async def test_one_with_a_wrong_greeting_is_killed_and_started_again(
    bench: Bench, greeting: dict[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    process = await bench.started()
    right = {"magic": wire.MAGIC, "wire": wire.WIRE_VERSION, "name": "gate", "address": ADDRESS}
    process.say(wire.GatewayReady(**{**right, **greeting}))  # type: ignore[arg-type]
    await bench.ready()
    assert process.kills == 1
    assert said in caplog.text
    assert bench.gateway.stats().restarts == 1


async def test_one_that_is_not_ready_in_time_is_killed_and_started_again(
    make: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make(start_s=0.01)
    first = await bench.started()
    await first.end()
    await bench.spawn.next_process()
    assert first.kills == 1
    assert "the gateway gate was not ready within 0.01 s" in caplog.text


async def test_one_that_says_it_cannot_serve_is_failed_with_that_and_not_started_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    process = await bench.started()
    process.say(wire.GatewayFailed(message=f"port 9600 is in use {TOKEN}"))
    process.exit(1)
    await bench.becomes(WorkerState.FAILED)
    assert "the gateway gate is given up: port 9600 is in use [redacted]" in caplog.text
    assert TOKEN not in caplog.text
    assert bench.spawn.count == 1
    assert bench.gateway.stats().pid is None


async def test_one_that_says_it_cannot_serve_and_stays_is_killed(bench: Bench) -> None:
    process = await bench.started()
    process.say(wire.GatewayFailed(message="no"))
    await process.end()
    await bench.becomes(WorkerState.FAILED)
    assert process.kills == 1


async def test_a_failed_build_is_told_and_not_tried_again(make: MakeBench, caplog: pytest.LogCaptureFixture) -> None:
    bench = make()
    bench.environments.error = InstallFailed("disk full")
    await bench.becomes(WorkerState.FAILED)
    assert "the gateway gate is given up: disk full" in caplog.text
    assert (bench.environments.count, bench.spawn.count) == (1, 0)


async def test_a_build_is_told_in_the_log(make: MakeBench, caplog: pytest.LogCaptureFixture) -> None:
    bench = make()
    bench.environments.ready.clear()
    async with bounded():
        await bench.environments.asked.wait()
    bench.environments.ready.set()
    await bench.ready()
    assert "the gateway gate is being installed: installing" in caplog.text


async def test_a_death_starts_it_again_after_0_1_2_and_4_seconds_and_then_it_is_failed(
    make: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make(crashes=5)
    for delay in (0.0, 1.0, 2.0, 4.0):
        process = await bench.ready()
        process.complain("why it dies\n")
        process.exit(3)
        if delay:
            await bench.clock.waited_for(delay)
            assert bench.gateway.state is WorkerState.STOPPED
            assert bench.gateway.stats().pid is None
            bench.clock.advance(delay)
    (await bench.ready()).exit(-9)
    await bench.becomes(WorkerState.FAILED)
    assert bench.gateway.stats().restarts == 4
    assert "died (exit code 3): why it dies" in caplog.text
    assert "it is started again in 4 s" in caplog.text
    assert "died (signal 9, SIGKILL)" in caplog.text
    assert "it is given up, since it died too often" in caplog.text
    assert bench.clock.pending == []


async def test_deaths_at_the_start_count_like_others(make: MakeBench, caplog: pytest.LogCaptureFixture) -> None:
    bench = make(crashes=2)
    for _ in range(2):
        (await bench.started()).exit(1)
    await bench.becomes(WorkerState.FAILED)
    assert bench.spawn.count == 2
    assert "the gateway gate died (exit code 1)" in caplog.text


async def test_what_cannot_be_spawned_counts_as_a_death(make: MakeBench, caplog: pytest.LogCaptureFixture) -> None:
    bench = make(crashes=1)
    bench.spawn.error = OSError("no more processes")
    await bench.becomes(WorkerState.FAILED)
    assert "the gateway gate could not be started: no more processes" in caplog.text


async def test_after_a_long_good_life_a_death_is_the_first_again(make: MakeBench) -> None:
    bench = make(crashes=2, crash_window_s=100.0)
    for _ in range(3):
        process = await bench.ready()
        for _ in range(21):
            process.say(wire.Beat())
            bench.clock.advance(5.0)
        process.exit(3)
    await bench.ready()


async def test_a_beat_keeps_it_alive_and_silence_ends_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    process = await bench.ready()
    for _ in range(10):
        process.say(wire.Beat())
        bench.clock.advance(SILENCE_S)
    assert not process.ended
    bench.clock.advance(WATCH_INTERVAL_S)
    await bench.ready()
    assert process.kills == 1
    assert "was ended because it gave no sign of life for 30 s" in caplog.text


async def test_garbage_ends_it_and_it_is_started_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    process = await bench.ready()
    process.write_raw(b"this is no message\n" * 200)
    await bench.ready()
    assert process.kills == 1
    assert "was ended because it wrote 100 lines that are no messages" in caplog.text


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_failed_line_of_one_that_was_ready_ends_it(
    bench: Bench, caplog: pytest.LogCaptureFixture, at_once: bool
) -> None:
    if at_once:
        process = await bench.started()
        process.say(READY, wire.GatewayFailed(message="the network is gone"))
    else:
        process = await bench.ready()
        process.say(wire.GatewayFailed(message="the network is gone"))
    await bench.started()
    assert process.kills == 1
    assert "was ended because it said: the network is gone" in caplog.text


async def test_what_a_process_says_after_its_end_was_decided_means_nothing(bench: Bench) -> None:
    old = await bench.ready()
    old.exit(3)
    new = await bench.ready("http://localhost:9601")
    old.ended = False
    old.say(wire.GatewayFailed(message="late"), READY)
    assert (bench.gateway.state, new.ended) == (WorkerState.READY, False)
    assert bench.heard.empty()


async def test_stop_ends_one_that_is_ready_and_it_stays_down(bench: Bench) -> None:
    process = await bench.ready()
    async with bounded():
        await bench.gateway.stop()
    assert (process.stops, process.kills) == (1, 0)
    assert bench.gateway.state is WorkerState.STOPPED
    assert bench.spawn.count == 1
    assert bench.gateway.stats().address is None


async def test_stop_ends_one_that_is_being_installed(make: MakeBench) -> None:
    bench = make()
    bench.environments.ready.clear()
    async with bounded():
        await bench.environments.asked.wait()
        await bench.gateway.stop()
    assert (bench.gateway.state, bench.spawn.count) == (WorkerState.STOPPED, 0)


async def test_stop_ends_one_that_has_not_greeted(bench: Bench) -> None:
    process = await bench.started()
    async with bounded():
        await bench.gateway.stop()
    assert (process.stops, bench.gateway.state) == (1, WorkerState.STOPPED)


async def test_stop_ends_the_wait_for_the_next_start(bench: Bench) -> None:
    for _ in range(2):
        (await bench.ready()).exit(3)
    await bench.clock.waited_for(1.0)
    async with bounded():
        await bench.gateway.stop()
    assert (bench.gateway.state, bench.spawn.count) == (WorkerState.STOPPED, 2)


async def test_stop_of_a_failed_one_leaves_it_stopped(make: MakeBench) -> None:
    bench = make()
    bench.environments.error = InstallFailed("disk full")
    await bench.becomes(WorkerState.FAILED)
    async with bounded():
        await bench.gateway.stop()
    assert bench.gateway.state is WorkerState.STOPPED


async def test_a_death_while_it_is_stopped_is_no_crash(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    process = await bench.ready()
    process.stoppable.clear()
    stopping = asyncio.ensure_future(bench.gateway.stop())
    await bench.becomes(WorkerState.STOPPING)
    process.exit(1)
    process.stoppable.set()
    async with bounded():
        await stopping
    assert "started again" not in caplog.text
    assert bench.spawn.count == 1


async def test_a_bug_of_ours_gives_it_up_and_is_logged(make: MakeBench, caplog: pytest.LogCaptureFixture) -> None:
    bench = make()
    bench.environments.error = KeyError("a bug")
    await bench.becomes(WorkerState.FAILED)
    assert "an error inside the module: the gateway gate is given up" in caplog.text


async def test_what_goes_wrong_where_its_address_is_shown_is_no_death(bench: Bench) -> None:
    def show(name: str, address: str) -> None:
        raise BrokenPipeError("nobody reads")

    told = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda _, what: told.set())
    bench.gateway._on_ready = show
    process = await bench.started()
    process.say(READY)
    async with bounded():
        await told.wait()
    assert (bench.gateway.state, process.ended) == (WorkerState.READY, False)


async def test_its_log_has_what_it_said_without_the_token(bench: Bench) -> None:
    process = await bench.ready()
    process.complain(f"connecting with {TOKEN}\n")
    await until(bench.log.file.exists, "the log was written")
    assert "connecting with [redacted]" in bench.log.file.read_text("utf-8")


@pytest.mark.parametrize(
    "text", [ADDRESS, "http://127.0.0.1:1", "https://llm.example.org", "ws://[::1]:7000/x", "wss://a.b"]
)
def test_an_address_is_a_url_that_users_can_open(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "localhost:9600", "http://", "ftp://x", "javascript:alert(1)", "http://x:99999", "http://x:0"),
        *("http://[::1", "http://x y", "http://x\n", "http://x\x1b[0m", f"http://{'x' * 200}"),
    ],
)
def test_anything_else_is_no_address(text: str) -> None:
    assert not is_address(text)
