"""Two ends of one generation at once, in every order: one of them wins, once (R1 to R6, P6). Spawns cut short (R7).

Through the whole module, from the client's frame to the worker's line, on a clock of the test's; what is random is how
many turns of the loop lie between, so that a seed is a certain interleaving.
"""

import asyncio
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from support.fake_process import FakeProcess
from support.virtual_loop import VirtualLoop, run_virtually
from support.whole_module import FakeClient, WholeModule, turns

from waifu_llm.config import LimitSettings
from waifu_llm.stats import Statistics
from waifu_worker import wire

pytestmark = pytest.mark.usefixtures("weighed_here")

SEEDS: Final = 100
# After so many turns what was asked for has happened: whoever comes then is late.
_LATE: Final = 16


@pytest.fixture(autouse=True)
def no_bugs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing of ours was raised where nobody expects it: the module would go on, and log it (R16)."""
    yield
    raised = [record for when in ("setup", "call") for record in caplog.get_records(when) if record.exc_info]
    assert [record.getMessage() for record in raised] == []


class Scene:
    """One generation, whose worker and client the test plays."""

    def __init__(self, module: WholeModule, chance: random.Random) -> None:
        self.module = module
        self.chance = chance
        self.client = module.connect()
        self.other = module.connect()

    async def begin(self) -> None:
        self.stream = self.chance.random() < 0.5
        self.process = await self.module.loaded(self.client)
        self.id = await self.module.generating(self.client, self.process, "g", stream=self.stream, timeout_ms=1000)
        self.said = ""
        for number in range(self.chance.randrange(3)):
            self.said += f"{number} "
            self.process.say(wire.Chunk(id=self.id, texts=(f"{number} ",)))
            await turns(self.chance.randrange(3))

    def do(self, end: str) -> None:
        match end:
            case "done":
                self.process.say(wire.Done(id=self.id, finish_reason="stop"))
            case "timeout":
                loop = self.module.server._loop
                assert isinstance(loop, VirtualLoop)
                loop.jump(1.0)
            case "interrupt":
                self.client.say("interrupt", f"i{self.chance.random()}", target_request_id="g")
            case "close":
                self.other.say("close", f"c{self.chance.random()}")
            case "death":
                self.process.exit(-9)
            case "disconnect":
                self.client.vanish()
            case _:
                self.other.say("unload", f"u{self.chance.random()}", provider="fake")


ENDS: Final[dict[str, str | None]] = {
    "done": "SUCCESS",
    "timeout": "TIMEOUT",
    "interrupt": "INTERRUPT",
    "close": "INTERRUPT",
    "death": "UNEXPECTED",
    "disconnect": None,
    "unload": "INTERRUPT",
}


def answer_cancels(process: FakeProcess, *, obedient: bool) -> None:
    """What the worker was told; one that does not obey says nothing."""
    while not process.ended and not process.nothing_sent():
        message = process._sent.get_nowait()
        if isinstance(message, wire.Cancel) and obedient:
            process.say(wire.Failed(id=message.id, error=wire.Code.INTERRUPT, message="cancelled"))


def check_talk(client: FakeClient, said: str, *, stream: bool) -> list[str]:
    """An acknowledgement, text, one end, and nothing after it; the codes of the end."""
    replies = client.heard("g")
    assert replies[0]["type"] == "generate_ack"
    ends = client.ends("g")
    assert len(ends) <= 1
    assert replies[-1] in ends or not ends
    assert said.startswith(client.text("g"))
    if ends and ends[0]["error"] == "SUCCESS":
        assert (client.text("g") if stream else ends[0]["response"]) == said
    return [end["error"] for end in ends]


def finished(statistics: Statistics) -> int:
    return sum(sum(counters.requests.values()) for counters in statistics.counters().values())


async def race(folder: Path, first: str, second: str, seed: int) -> None:
    chance = random.Random(seed)
    module = WholeModule(folder)
    scene = Scene(module, chance)
    await scene.begin()
    await turns(chance.randrange(3))
    between = chance.choice([0, 0, 1, 2, 3, 4, _LATE])
    scene.do(first)
    await turns(between)
    scene.do(second)
    await turns(_LATE)
    answer_cancels(scene.process, obedient=chance.random() < 0.5)
    await turns(_LATE)

    codes = check_talk(scene.client, scene.said, stream=scene.stream)
    if between == _LATE:
        assert codes == [code for code in (ENDS[first],) if code is not None]
    else:
        allowed = {ENDS[first], ENDS[second]}
        assert set(codes) <= allowed
        assert codes or None in allowed
    assert finished(module.bench.statistics) == 1
    asked = [first, second].count("interrupt")
    acks = [reply for reply in scene.client.socket.heard if reply["type"] == "interrupt_ack"]
    assert len(acks) == asked or scene.client.socket.closed
    for end in ("close", "unload"):
        done = [reply for reply in scene.other.socket.heard if reply["type"] in (f"{end}_ack", f"{end}_done")]
        assert len(done) == [first, second].count(end) or scene.other.socket.closed
    await module.end()
    assert module.at_rest
    assert scene.process.ended


@pytest.mark.parametrize("first", ENDS)
def test_p6_r1_r2_of_two_ends_of_one_generation_one_is_told_once(tmp_path: Path, first: str) -> None:
    async def main() -> None:
        for second, seed in itertools.product(ENDS, range(SEEDS)):
            try:
                await race(tmp_path, first, second, seed)
            except AssertionError as error:
                raise AssertionError(f"{first}, {second}, seed {seed}") from error

    run_virtually(main())


# Interrupts of what has not begun (R3), switches (R5).


@pytest.mark.virtual_time
@pytest.mark.parametrize("stage", ["building", "starting", "loading", "preloading"])
@pytest.mark.parametrize("again", [False, True])
async def test_r3_a_load_that_is_interrupted_in_any_stage_ends_once_and_another_is_served(
    tmp_path: Path, stage: str, again: bool
) -> None:
    module = WholeModule(tmp_path)
    client = module.connect()
    if stage == "building":
        module.bench.environments.ready.clear()
    client.load("l", preload_model_id="m")
    await turns(_LATE)
    processes = module.new_processes()
    if stage in ("loading", "preloading"):
        processes[0].greet()
        load = await processes[0].next_sent(wire.Load)
        if stage == "preloading":
            processes[0].say(wire.Progress(id=load.id, stage="model", detail="m", fraction=0.5))
    await turns(_LATE)
    client.say("interrupt", "i", target_request_id="l")
    if again:
        client.load("again")
    await turns(_LATE)
    assert [end["error"] for end in client.ends("l")] == ["INTERRUPT"]
    (ack,) = client.heard("i")
    assert ack["interrupted"] == ["l"]
    # A build and a start belong to nobody: they go on.
    module.bench.environments.ready.set()
    await work(module, processes)
    assert [end["error"] for end in client.ends("again")] == ["SUCCESS"] * again
    await module.end()
    assert module.at_rest
    assert [process.ended for process in processes] == [True] * len(processes)
    assert len(client.ends("l")) == 1


@pytest.mark.virtual_time
@pytest.mark.parametrize("end", ["interrupt", "timeout"])
async def test_r3_how_far_a_load_is_that_has_ended_already_is_told_nobody(tmp_path: Path, end: str) -> None:
    module = WholeModule(tmp_path)
    client = module.connect()
    client.load("l", progress=True)
    process = await module.bench.spawn.next_ready()
    load = await process.next_sent(wire.Load)
    if end == "interrupt":
        client.say("interrupt", "i", target_request_id="l")
    else:
        await asyncio.sleep(15)
    cancel = await process.next_sent(wire.Cancel)
    assert cancel.id == load.id
    # It had not read the cancel yet.
    process.say(wire.Progress(id=load.id, stage="model", detail="m", fraction=0.5))
    await turns(_LATE)
    assert client.heard("l")[-1]["type"] == "load_done"
    await module.end()


async def work(module: WholeModule, processes: list[FakeProcess]) -> None:
    """All workers, those that start meanwhile too, do what they are asked, until nobody asks any more."""
    for _ in range(4):
        await turns(_LATE)
        processes += module.new_processes()
        for process in processes:
            if not process.ended:
                if not process.greeted:
                    process.greet()
                answer_loads(process)


def answer_loads(process: FakeProcess) -> None:
    """Each load that was not cancelled is done."""
    loads: dict[int, bool] = {}
    while not process.nothing_sent():
        match process._sent.get_nowait():
            case wire.Load(id=load):
                loads[load] = True
            case wire.Cancel(id=load):
                loads[load] = False
    for load, wanted in loads.items():
        if wanted:
            process.say(wire.Done(id=load, models=(wire.ModelInfo(id="m"),)))
        else:
            process.say(wire.Failed(id=load, error=wire.Code.INTERRUPT, message="cancelled"))


@pytest.mark.virtual_time
async def test_r3_what_is_interrupted_while_it_waits_for_a_place_never_reaches_the_worker(tmp_path: Path) -> None:
    module = WholeModule(tmp_path, limits=LimitSettings(running=1))
    client = module.connect()
    process = await module.loaded(client)
    first = await module.generating(client, process, "first")
    client.generate("second")
    client.generate("third")
    await turns(_LATE)
    client.say("interrupt", "i", target_request_id="second")
    await turns(_LATE)
    assert [end["error"] for end in client.ends("second")] == ["INTERRUPT"]
    process.say(wire.Done(id=first))
    third = await process.next_sent(wire.Generate)
    process.say(wire.Done(id=third.id))
    await turns(_LATE)
    assert [end["error"] for end in client.ends("third")] == ["SUCCESS"]
    assert process.nothing_sent()
    await module.end()


@pytest.mark.virtual_time
async def test_r6_a_load_that_comes_while_an_unload_still_stops_the_worker_is_not_ended_by_it(tmp_path: Path) -> None:
    module = WholeModule(tmp_path)
    client = module.connect()
    client.load("first")
    old = await module.bench.spawn.next_ready()
    await old.next_sent(wire.Load)
    old.stoppable.clear()
    client.say("unload", "u", provider="fake")
    await turns(_LATE)
    client.load("second")
    client.load("third", num_ctx=2)
    await turns(_LATE)
    old.stoppable.set()
    await work(module, [old])
    assert [end["error"] for end in client.ends("first")] == ["INTERRUPT"]
    assert [end["error"] for end in client.ends("second")] == ["SUCCESS"]
    assert [end["error"] for end in client.ends("third")] == ["SUCCESS"]
    await module.end()
    assert module.at_rest


@pytest.mark.virtual_time
async def test_r6_a_load_behind_an_unload_that_cut_a_start_short_begins_a_new_one(tmp_path: Path) -> None:
    module = WholeModule(tmp_path)
    client = module.connect()
    module.bench.environments.ready.clear()
    client.load("first")
    await turns(_LATE)
    client.say("unload", "u", provider="fake")
    client.load("second")
    await turns(_LATE)
    module.bench.environments.ready.set()
    await work(module, [])
    assert len(client.ends("first")) == 1
    assert [end["error"] for end in client.ends("second")] == ["SUCCESS"]
    await module.end()
    assert module.at_rest


@pytest.mark.virtual_time
async def test_r4_a_cancel_names_its_request_and_one_that_comes_too_late_hits_nobody(tmp_path: Path) -> None:
    module = WholeModule(tmp_path)
    client = module.connect()
    process = await module.loaded(client)
    first = await module.generating(client, process, "first")
    client.say("interrupt", "i")
    cancel = await process.next_sent(wire.Cancel)
    assert cancel.id == first
    second = await module.generating(client, process, "second", stream=True)
    process.say(wire.Chunk(id=second, texts=("a",)), wire.Done(id=first), wire.Done(id=second))
    await turns(_LATE)
    # The worker is done with it: after its time nobody is killed for a cancel that it ignored.
    await asyncio.sleep(10)
    assert [end["error"] for end in client.ends("second")] == ["SUCCESS"]
    assert not process.ended
    await module.end()


@pytest.mark.virtual_time
async def test_r5_after_a_switch_the_old_request_is_finished_by_the_old_worker_which_then_goes(tmp_path: Path) -> None:
    module = WholeModule(tmp_path, providers=("fake", "other"), idle_s=60.0)
    client = module.connect()
    old = await module.loaded(client)
    stream = await module.generating(client, old, "g", stream=True)
    client.load("switch", "other")
    new = await module.bench.spawn.next_ready("other")
    load = await new.next_sent(wire.Load)
    new.say(wire.Done(id=load.id, models=()))
    await turns(_LATE)
    await module.generating(client, new, "h")
    old.say(wire.Chunk(id=stream, texts=("still here",)), wire.Done(id=stream))
    await turns(_LATE)
    assert (client.text("g"), [end["error"] for end in client.ends("g")]) == ("still here", ["SUCCESS"])
    await module.end()
    assert [process.ended for process in (old, new)] == [True, True]


# Starts that are cut short at every step (R7).

STEPS: Final = 24


async def cut_short(folder: Path, cut: str, step: int) -> None:
    """A load that is cut short after so many turns, while its worker greets after half of them."""
    module = WholeModule(folder, idle_s=0.0)
    client, other = module.connect(), module.connect()
    client.load("l")
    processes: list[FakeProcess] = []
    for turn in range(STEPS):
        processes += module.new_processes()
        if turn == STEPS // 2:
            for process in processes:
                process.greet()
        if turn == step:
            cut_with(cut, client, other, processes)
        await asyncio.sleep(0)
    await work(module, processes)
    assert len(client.ends("l")) == 1 or client.socket.closed
    await module.end()
    assert [process.ended for process in processes] == [True] * len(processes), f"cut at {step}"
    assert module.at_rest


def cut_with(cut: str, client: FakeClient, other: FakeClient, processes: list[FakeProcess]) -> None:
    match cut:
        case "interrupt":
            client.say("interrupt", "i", target_request_id="l")
        case "disconnect":
            client.vanish()
        case "unload":
            other.say("unload", "u", provider="fake")
        case "close":
            other.say("close", "c")
        case _:
            for process in processes:
                process.exit(-9)


@pytest.mark.parametrize("cut", ["interrupt", "disconnect", "unload", "close", "death"])
def test_r7_a_start_that_is_cut_short_at_any_step_leaves_no_process(tmp_path: Path, cut: str) -> None:
    async def main() -> None:
        for step in range(STEPS):
            await cut_short(tmp_path, cut, step)

    run_virtually(main())
