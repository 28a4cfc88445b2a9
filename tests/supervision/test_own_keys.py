"""A keyring that does not answer: it holds up its own provider's loads only, for a while, and no stop."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pool_bench import FAKE, MakeBench, make
from support.waiting import WAIT_S, bounded, until

from waifu_llm.catalog import Manifest
from waifu_llm.errors import Closing, ModuleError, StartFailed
from waifu_llm.supervision.jobs import LoadFields
from waifu_llm.supervision.own_keys import OwnKeys
from waifu_worker import wire


class Keyring:
    """Answers its first asker when the test says so, and all others at once. `over`: looks that have ended."""

    def __init__(self) -> None:
        self.asked = 0
        self.over = 0
        self.error: Exception | None = None
        self._go = threading.Event()
        self._lock = threading.Lock()

    def look(self, manifest: Manifest | None = None) -> str:
        with self._lock:
            self.asked += 1
            hangs = self.asked == 1
        if hangs:
            assert self._go.wait(WAIT_S)
        self.over += 1
        if self.error is not None:
            raise self.error
        return "canary-of-the-server"

    def answer(self) -> None:
        self._go.set()


@pytest.fixture
def keyring() -> Iterator[Keyring]:
    keyring = Keyring()
    yield keyring
    keyring.answer()


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_while_a_keyring_hangs_other_providers_load(make_bench: MakeBench, keyring: Keyring) -> None:
    bench = make_bench(find_key=keyring.look, providers=("fake", "other"))
    hung = asyncio.create_task(bench.pool.load(bench.fields(), "a"))
    await turns()
    other = asyncio.create_task(bench.pool.load(LoadFields("other", None, None, {}), "b"))
    process = await bench.spawn.next_ready("other")
    process.say(wire.Done(id=(await process.next_sent(wire.Load)).id))
    async with bounded():
        assert (await other).provider == "other"
    assert not hung.done()
    keyring.answer()
    await bench.spawn.loaded()
    async with bounded():
        assert (await hung).provider == "fake"


def test_a_stop_does_not_wait_for_a_keyring_that_hangs(tmp_path: Path, keyring: Keyring) -> None:
    async def stopped_while_it_hangs() -> None:
        bench = make(tmp_path, find_key=keyring.look)
        load = asyncio.create_task(bench.pool.load(bench.fields(), "a"))
        await turns()
        await bench.pool.close()
        async with bounded():
            with pytest.raises(Closing):
                await load
        assert bench.spawn.count == 0

    asyncio.run(stopped_while_it_hangs())  # it ends with the loop's own end, which waits for the loop's threads
    assert (keyring.asked, keyring.over) == (1, 0)


async def test_however_many_ask_for_one_key_one_thread_looks(keyring: Keyring) -> None:
    keys = OwnKeys(keyring.look)
    asking = [asyncio.create_task(keys.of(FAKE)) for _ in range(100)]
    await turns()
    asking[0].cancel()
    keyring.answer()
    async with bounded():
        answers = await asyncio.gather(*asking, return_exceptions=True)
    assert answers[1:] == ["canary-of-the-server"] * 99
    assert isinstance(answers[0], asyncio.CancelledError)
    assert keyring.asked == 1
    assert await keys.of(FAKE) == "canary-of-the-server"
    assert keyring.asked == 2


async def test_a_keyring_that_does_not_answer_in_time_fails_the_load(keyring: Keyring) -> None:
    keys = OwnKeys(keyring.look, patience_s=0.0)
    for _ in range(2):
        with pytest.raises(StartFailed, match="the keyring did not give this server's key of fake within 0 s; unlock"):
            await keys.of(FAKE)
    await turns()
    assert keyring.asked == 1
    keys.close()
    await turns()


async def test_what_a_keyring_raises_reaches_who_asked_and_nobody_else(keyring: Keyring) -> None:
    keys = OwnKeys(keyring.look)
    keyring.error = ModuleError("the keyring is locked")
    keyring.answer()
    with pytest.raises(ModuleError, match="locked"):
        async with bounded():
            await keys.of(FAKE)
    left = asyncio.create_task(keys.of(FAKE))
    await asyncio.sleep(0)
    left.cancel()
    keyring.error = None
    await until(lambda: keyring.over == 2, "the second look is over")
    assert await keys.of(FAKE) == "canary-of-the-server"
