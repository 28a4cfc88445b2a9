"""When what a worker says leaves for its clients, and in how many writes. Through the whole module, in memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.fake_process import FakeProcess
from support.waiting import bounded
from support.whole_module import FakeClient, WholeModule, turns

from waifu_llm.supervision.channel import LINES_PER_TURN
from waifu_worker import wire

pytestmark = pytest.mark.virtual_time

Scene = tuple[FakeClient, FakeClient, FakeProcess]


@pytest.fixture
async def module(tmp_path: Path) -> AsyncIterator[WholeModule]:
    made = WholeModule(tmp_path)
    yield made
    async with bounded():
        await made.end()


@pytest.fixture
async def scene(module: WholeModule) -> Scene:
    """Two clients of one worker, with nothing to be written to them."""
    one, other = module.connect(), module.connect()
    process = await module.loaded(one)
    other.load("load")
    await turns(20)
    return one, other, process


async def streaming(module: WholeModule, client: FakeClient, process: FakeProcess, request_id: str) -> int:
    """The wire's id of a stream that has said nothing yet."""
    number = await module.generating(client, process, request_id, stream=True)
    await turns(5)
    return number


async def test_all_that_a_worker_says_at_once_leaves_in_one_write_for_each_client_before_the_loop_goes_on(
    module: WholeModule, scene: Scene
) -> None:
    one, other, process = scene
    a, b = [await streaming(module, one, process, request_id) for request_id in "ab"]
    c = await streaming(module, other, process, "c")
    before = one.socket.writes, other.socket.writes
    process.say(
        wire.Chunk(id=a, texts=("1", "2")),
        wire.Chunk(id=c, texts=("x",)),
        wire.Chunk(id=b, texts=("y",)),
        wire.Chunk(id=a, texts=("3",)),
        wire.Done(id=a),
    )
    assert (one.text("a"), one.text("b"), other.text("c")) == ("123", "y", "x")
    assert [end["error"] for end in one.ends("a")] == ["SUCCESS"]
    assert (one.socket.writes, other.socket.writes) == (before[0] + 1, before[1] + 1)
    await turns(5)
    assert (one.socket.writes, other.socket.writes) == (before[0] + 1, before[1] + 1)


async def test_of_a_worker_that_says_much_each_turn_of_the_loop_writes_what_it_has_heard(
    module: WholeModule, scene: Scene
) -> None:
    one, _, process = scene
    a = await streaming(module, one, process, "a")
    before = one.socket.writes
    words = [f"{number} " for number in range(2 * LINES_PER_TURN + 1)]
    process.say(*(wire.Chunk(id=a, texts=(word,)) for word in words))
    for turn in (1, 2, 3):
        assert one.text("a") == "".join(words[: turn * LINES_PER_TURN])
        assert one.socket.writes == before + turn
        await turns(1)


async def test_a_client_that_cannot_be_written_to_is_cut_and_the_others_get_their_text(
    module: WholeModule, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, process = scene
    a, c = await streaming(module, one, process, "a"), await streaming(module, other, process, "c")

    def fail(data: bytes) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(one.socket, "write", fail)
    process.say(wire.Chunk(id=a, texts=("lost",)), wire.Chunk(id=c, texts=("kept",)))
    assert (one.socket.closed, other.text("c")) == (True, "kept")
    process.say(wire.Chunk(id=c, texts=(" too",)))
    assert other.text("c") == "kept too"
    assert (await process.next_sent(wire.Cancel)).id == a
    process.say(wire.Failed(id=a, error=wire.Code.INTERRUPT, message="stopped"))


async def test_to_a_client_that_is_gone_nothing_is_written(
    module: WholeModule, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    one, other, process = scene
    a, c = await streaming(module, one, process, "a"), await streaming(module, other, process, "c")
    before = one.socket.writes
    one.vanish()
    process.say(wire.Chunk(id=a, texts=("lost",)), wire.Chunk(id=c, texts=("kept",)))
    await turns(5)
    assert (one.socket.writes, other.text("c")) == (before, "kept")
    assert not [record for record in caplog.records if record.exc_info]
