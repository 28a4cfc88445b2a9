"""Two hundred requests more leave nothing more: no object, no block of memory, nothing that waits to be collected.

Counted in-process; that memory stays flat over a million chunks is shown by `scripts/flat_memory.py`.
"""

import asyncio
import gc
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from fakes.upstream.openai_api import GOOD_KEY
from support.fake_process import FakeProcess
from support.providers import provider_class
from support.upstream import upstream_process
from support.waiting import bounded
from support.whole_module import FakeClient, WholeModule, turns

from waifu_worker import wire
from waifu_worker.testing import Driver

_REQUESTS: Final = 200
# What the interpreter's own free lists, caches and the test's loop may add meanwhile, less and less.
_BY_THE_WAY: Final = _REQUESTS // 2
_TEXTS: Final = tuple(f"piece {number} of a text" for number in range(3))
_LINES: Final = 5
# A request's deadline, later than this test's end: nothing of it waits for that.
_DEADLINE_MS: Final = 24 * 60 * 60 * 1000
# After it nobody looks any more whether a request has ended that was to be cancelled; on the test's clock.
_UNTIL_LATE_S: Final = 10.0

Request = Callable[[int], Awaitable[None]]


@pytest.fixture(autouse=True)
def _nothing_beside_it_keeps_anything() -> Iterator[None]:
    """No collection by itself, and no tracer in new threads: coverage keeps one for ever for each that there was."""
    tracer = threading.gettrace()
    gc.disable()
    threading.settrace(None)
    yield
    threading.settrace(tracer)
    gc.enable()


async def _garbage(request: Request, first: int) -> int:
    """Make requests: how many objects they left that nothing but a collection could find."""
    for number in range(first, first + _REQUESTS):
        await request(number)
    return gc.collect()


def _objects() -> Counter[str]:
    return Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())


async def _keeps_nothing(request: Request, garbage_of_each: int = 0, on_its_way: int = 0) -> None:
    for earlier in range(3):
        await _garbage(request, earlier * _REQUESTS)
    blocks = sys.getallocatedblocks()
    garbage = await _garbage(request, 3 * _REQUESTS)
    assert sys.getallocatedblocks() - blocks <= _BY_THE_WAY
    assert garbage <= garbage_of_each * _REQUESTS + _BY_THE_WAY
    objects = _objects()
    await _garbage(request, 4 * _REQUESTS)
    more = _objects() - objects
    assert {name: count for name, count in more.items() if count > _BY_THE_WAY} == {}
    assert {name: count for name, count in more.items() if name.startswith("waifu_") and count > on_its_way} == {}


async def _whole(client: FakeClient, process: FakeProcess, id_: int) -> None:
    process.say(*(wire.Chunk(id=id_, texts=_TEXTS) for _ in range(_LINES)))
    process.say(wire.Done(id=id_))


async def _failing(client: FakeClient, process: FakeProcess, id_: int) -> None:
    process.say(wire.Chunk(id=id_, texts=_TEXTS))
    process.say(wire.Failed(id=id_, error=wire.Code.UNEXPECTED, message="no"))


async def _interrupted(client: FakeClient, process: FakeProcess, id_: int) -> None:
    process.say(wire.Chunk(id=id_, texts=_TEXTS))
    client.say("interrupt", "stop")
    cancelled = await process.next_sent(wire.Cancel)
    process.say(wire.Failed(id=cancelled.id, error=wire.Code.INTERRUPT, message="stopped"))


@pytest.mark.virtual_time
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("life", [_whole, _failing, _interrupted])
async def test_the_core_keeps_nothing_of_a_request(
    tmp_path: Path, life: Callable[[FakeClient, FakeProcess, int], Awaitable[None]], stream: bool
) -> None:
    module = WholeModule(tmp_path)
    client = module.connect()
    process = await module.loaded(client)

    async def request(number: int) -> None:
        id_ = await module.generating(client, process, f"r{number}", stream=stream, timeout_ms=_DEADLINE_MS)
        await life(client, process, id_)
        async with bounded():
            while not client.ends(f"r{number}"):
                await turns(1)
        client.socket.heard.clear()
        await asyncio.sleep(_UNTIL_LATE_S)

    await _keeps_nothing(request)
    await module.end()


@pytest.mark.virtual_time
async def test_the_core_keeps_nothing_of_a_client(tmp_path: Path) -> None:
    module = WholeModule(tmp_path)
    process = await module.loaded(module.connect())

    async def visit(number: int) -> None:
        client = module.connect()
        client.load("load")
        await module.generating(client, process, f"r{number}")
        client.socket.abort()
        await client.life
        module.clients.remove(client)
        cancelled = await process.next_sent(wire.Cancel)
        process.say(wire.Failed(id=cancelled.id, error=wire.Code.INTERRUPT, message="stopped"))
        await asyncio.sleep(_UNTIL_LATE_S)

    await _keeps_nothing(visit, garbage_of_each=40)
    await module.end()


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_worker_keeps_nothing_of_a_request(stream: bool) -> None:
    with upstream_process() as url:
        async with Driver(provider_class("openai")) as driver, bounded():
            await driver.load(api_key=GOOD_KEY, options={"base_url": f"{url}/v1"})

            async def request(number: int) -> None:
                messages = [wire.ChatMessage(role="user", content=f"request {number}")]
                await driver.generation(messages, wire.Params(model_id="gpt-4o-mini"), stream=stream).answer()
                driver.lines.inboxes.clear()

            # The last bytes of the last answer may still be being read.
            await _keeps_nothing(request, on_its_way=1)
