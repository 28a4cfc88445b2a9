"""A program's connection to the module: opened once, again when lost, and never twice at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from support.running_module import RunningModule, running_module
from support.waiting import bounded
from waifu_lollms.module_link import ModuleLink

from waifu_client import Client, ConnectionLost, ModuleNotRunning


class Opener:
    """Opens connections to a module, when the test lets it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.opened: list[Client] = []
        self.tries = 0
        self.may = asyncio.Event()
        self.may.set()

    async def __call__(self) -> Client:
        self.tries += 1
        await self.may.wait()
        client = await Client.open(self.url)
        self.opened.append(client)
        return client


@pytest.fixture
async def module(home: Path, installed: Callable[..., None]) -> AsyncIterator[RunningModule]:
    installed("echo")
    async with running_module(home) as module, bounded():
        yield module


@pytest.fixture
async def opener(module: RunningModule) -> Opener:
    return Opener(module.url)


@pytest.fixture
async def link(opener: Opener) -> AsyncIterator[ModuleLink]:
    link = ModuleLink(opener)
    yield link
    await link.close()


async def names(client: Client) -> tuple[str, ...]:
    return (await client.providers()).names


async def models(client: Client) -> tuple[str, ...]:
    return (await client.models("echo")).ids


async def test_nothing_is_opened_before_it_is_needed(link: ModuleLink, opener: Opener) -> None:
    assert opener.tries == 0
    assert "echo" in await link.ask(names)
    assert "echo" in await link.ask(names)
    assert opener.tries == 1


async def test_many_at_once_share_one_connection(link: ModuleLink, opener: Opener) -> None:
    await asyncio.gather(*(link.ask(names) for _ in range(10)))
    assert opener.tries == 1


async def test_one_that_gives_up_waiting_takes_nothing_from_the_others(link: ModuleLink, opener: Opener) -> None:
    opener.may.clear()
    first, second = asyncio.create_task(link.ask(names)), asyncio.create_task(link.ask(names))
    await asyncio.sleep(0)
    first.cancel()
    opener.may.set()
    assert "echo" in await second
    assert first.cancelled()
    assert opener.tries == 1


async def test_a_lost_connection_is_opened_again_and_loads_again(link: ModuleLink, opener: Opener) -> None:
    assert "echo" in await link.ask_loaded("echo", models)
    await opener.opened[0].aclose()
    both = await asyncio.gather(link.ask_loaded("echo", models), link.ask_loaded("echo", models))
    assert both[0] == both[1]
    assert opener.tries == 2


async def test_what_fails_twice_fails(link: ModuleLink, opener: Opener) -> None:
    async def lose(client: Client) -> None:
        await client.aclose()
        await client.providers()

    with pytest.raises(ConnectionLost):
        await link.ask(lose)
    assert opener.tries == 2
    assert "echo" in await link.ask(names)


async def test_where_no_module_is_the_next_call_tries_again(link: ModuleLink, opener: Opener) -> None:
    url, opener.url = opener.url, "ws://127.0.0.1:9"
    with pytest.raises(ModuleNotRunning):
        await link.ask(names)
    opener.url = url
    assert "echo" in await link.ask(names)


async def test_a_closed_link_opens_nothing_more(module: RunningModule, opener: Opener) -> None:
    link = ModuleLink(opener)
    await link.ask(names)
    asking = asyncio.create_task(link.ask(lambda client: asyncio.Event().wait()))
    await asyncio.sleep(0)
    await link.close()
    await link.close()
    asking.cancel()
    with pytest.raises(ConnectionLost):
        await link.ask(names)
    assert opener.tries == 1


async def test_a_call_that_the_close_ends_is_not_made_again(opener: Opener) -> None:
    link = ModuleLink(opener)
    started = asyncio.Event()

    async def wait_for_the_end(client: Client) -> None:
        started.set()
        stream = client.stream("word " * 1000, model_id="echo-slow", provider="echo")
        async for _ in stream:
            pass

    asking = asyncio.create_task(link.ask_loaded("echo", wait_for_the_end))
    await started.wait()
    await link.close()
    with pytest.raises(ConnectionLost):
        await asking
    assert opener.tries == 1


async def test_a_close_while_it_opens_leaves_nothing_open(opener: Opener) -> None:
    link = ModuleLink(opener)
    opener.may.clear()
    asking = asyncio.create_task(link.ask(names))
    await asyncio.sleep(0)
    await link.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert opener.opened == []
