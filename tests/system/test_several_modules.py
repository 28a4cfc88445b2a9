"""Several modules behind one address: what docs/scaling.md says of sessions, loads, tokens and health checks."""

import asyncio
import itertools
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.environments import SharedEnvironments
from support.proxy import Proxy, accepting
from support.running_module import Served, served
from support.waiting import bounded

from waifu_client import connect
from waifu_client.errors import Interrupted, InvalidProvider

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as they are here are POSIX")

TOKEN = "the-token-that-both-modules-know"


class Balancer(Proxy):
    """Gives each connection to the next of the modules that it believes to be alive, as balancers do, and reads
    nothing."""

    def __init__(self, modules: Sequence[Served]) -> None:
        super().__init__("", 0)
        self.modules = list(modules)
        self._turns = itertools.count()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        url = urlsplit(self.modules[next(self._turns) % len(self.modules)].url)
        assert url.hostname is not None
        assert url.port is not None
        self._upstream = url.hostname, url.port
        await super()._accept(reader, writer)


@pytest.fixture
def modules(tmp_path: Path, shared_environments: SharedEnvironments) -> Iterator[list[Served]]:
    """Two of them, with a home each and the same token."""
    with ExitStack() as stack:
        started = []
        for name in ("a", "b"):
            home = tmp_path / name
            shared_environments.install(home, "echo")
            env = {"WAIFU_LLM_HOME": str(home), "WAIFU_LLM_TOKEN": TOKEN}
            started.append(stack.enter_context(served("--no-remote-close", env=env)))
        yield started


async def test_a_connection_stays_with_one_module_and_what_it_loaded_is_known_there_only(modules: list[Served]) -> None:
    async with bounded(), accepting(Balancer(modules)) as balancer, AsyncExitStack() as stack:
        first, second, third = [await stack.enter_async_context(connect(balancer.url, token=TOKEN)) for _ in range(3)]
        await first.load("echo")
        assert (await third.generate("the same module")).text == "the same module"
        with pytest.raises(InvalidProvider):
            await second.generate("the other module")
        await second.load("echo")
        assert (await second.generate("the other module")).text == "the other module"


async def test_the_end_of_one_module_ends_its_own_clients_who_find_the_other_when_they_connect_again(
    modules: list[Served],
) -> None:
    async with bounded(), accepting(Balancer(modules)) as balancer, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(balancer.url, token=TOKEN)) for _ in range(2)]
        for client in clients:
            await client.load("echo")
        streams = [aiter(client.stream("word " * 10_000, model_id="echo-slow")) for client in clients]
        for stream in streams:
            await anext(stream)
        modules[0].signal(signal.SIGTERM)
        with pytest.raises(Interrupted) as ended:
            await exhaust(streams[0])
        assert ended.value.reason == "closing"
        balancer.modules.remove(modules[0])
        again = await stack.enter_async_context(connect(balancer.url, token=TOKEN))
        await again.load("echo")
        assert (await again.generate("here")).text == "here"
        assert await anext(streams[1]) == "word "


async def exhaust(stream: AsyncIterator[str]) -> None:
    async for _ in stream:
        pass


@pytest.mark.parametrize(("headers", "status"), [("", 401), (f"Authorization: Bearer {TOKEN}\r\n", 426)])
async def test_a_health_check_is_a_request_of_http_that_leaves_no_connection(
    modules: list[Served], headers: str, status: int
) -> None:
    async with bounded(), accepting(Balancer(modules)) as balancer:
        reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
        writer.write(f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
        assert (await reader.read()).startswith(f"HTTP/1.1 {status} ".encode())
        writer.close()
        async with connect(modules[0].url, token=TOKEN) as client:
            assert (await client.stats()).connections == 1
