"""`serve --prewarm`: real workers that are there before a client is."""

import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fakes.upstream.openai_api import GOOD_KEY
from fakes.upstream.server import OpenAI, Upstream, running
from support.running_module import marked_children, running_module, served
from support.waiting import WAIT_S, bounded, gone, until

from waifu_client import Client, connect
from waifu_client.errors import InvalidProvider
from waifu_client.protocol import WorkerStats
from waifu_llm.config import WorkerSettings


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running(OpenAI()) as upstream:
        yield upstream


@pytest.fixture
def no_keys(home: Path) -> None:
    """The module has no key of its own, not even that of the tests."""
    home.mkdir(mode=0o700)
    (home / "keys.json").write_text("{}")
    (home / "keys.json").chmod(0o600)


@pytest.fixture
def configured(home: Path, upstream: Upstream) -> None:
    """The module is to prewarm openai, at the test's service."""
    home.mkdir(mode=0o700)
    settings = f'[workers]\nprewarm = ["openai"]\n[provider.openai]\nbase_url = "{upstream.url}/v1"\n'
    (home / "waifu-llm.toml").write_text(settings)


async def warm(llm: Client, provider: str = "echo") -> int:
    """Wait until its worker is ready, and give its pid."""
    found: list[WorkerStats] = []

    async def look() -> bool:
        found[:] = [worker for worker in (await llm.stats()).workers if worker.provider == provider]
        return any(worker.state == "ready" for worker in found)

    async with bounded():
        while not await look():
            pass
    (worker,) = found
    assert worker.pid is not None
    return worker.pid


async def pids(llm: Client) -> list[int | None]:
    return [worker.pid for worker in (await llm.stats()).workers]


async def test_a_prewarmed_provider_is_loaded_by_no_new_process(installed: Callable[..., None]) -> None:
    installed("echo")
    with served("--prewarm", "echo") as module:
        async with connect(module.url) as llm:
            pid = await warm(llm)
            async with bounded():
                await llm.load("echo")
                assert (await llm.generate("hello", model_id="echo")).text
            assert await pids(llm) == [pid]


async def test_a_prewarmed_worker_whose_key_is_missing_takes_the_key_of_the_first_load(
    no_keys: None, installed: Callable[..., None], upstream: Upstream
) -> None:
    installed("openai")
    with served("--prewarm", "openai") as module:
        async with connect(module.url) as llm:
            pid = await warm(llm, "openai")
            async with bounded():
                await llm.load("openai", api_key=GOOD_KEY, base_url=f"{upstream.url}/v1")
            assert await pids(llm) == [pid]


async def test_a_key_of_this_server_is_used_to_load_it(
    configured: None, installed: Callable[..., None], upstream: Upstream
) -> None:
    installed("openai")
    with served(env={"OPENAI_API_KEY": GOOD_KEY}) as module:
        async with connect(module.url) as llm:
            pid = await warm(llm, "openai")
            async with bounded():
                await until(lambda: len(upstream.exchanges) > 0, "the prewarmed load asked the service")
                await llm.load("openai")
            assert await pids(llm) == [pid]
        assert len(upstream.exchanges) == 1


async def test_what_cannot_be_prewarmed_keeps_nobody_from_being_served(
    installed: Callable[..., None], home: Path
) -> None:
    """As a provider that was loaded last and is there no more."""
    installed("echo")
    (home / "last-provider").write_text("eccho\n", "utf-8")
    with served("--prewarm", "echo", "--prewarm-last") as module:
        async with connect(module.url) as llm:
            await warm(llm)
            with pytest.raises(InvalidProvider):
                await llm.load("eccho")
        told = "eccho is not prewarmed: there is no provider 'eccho'"
        await until(lambda: told in (home / "logs" / "waifu-llm.log").read_text("utf-8"), "it is told")


async def test_unload_ends_it_and_the_end_of_the_module_leaves_nothing(installed: Callable[..., None]) -> None:
    installed("echo")
    with served("--prewarm", "echo") as module:
        async with connect(module.url) as llm:
            pid = await warm(llm)
            async with bounded():
                await llm.unload("echo")
            await until(lambda: gone(pid), "the worker has ended")
            async with bounded():
                await llm.load("echo")
            assert await pids(llm) != [pid]
        module.process.terminate()
        assert module.wait() == 0
        assert marked_children() == []


async def test_it_makes_room_for_another_provider(no_keys: None, installed: Callable[..., None]) -> None:
    installed("echo", "openai")
    limits = {"WAIFU_LLM_LIMITS_WORKERS": "1"}
    with served("--prewarm", "openai", env=limits) as module:
        async with connect(module.url) as llm:
            pid = await warm(llm, "openai")
            async with bounded():
                await llm.load("echo")
            assert gone(pid)


async def test_the_provider_that_was_loaded_last_is_warm_at_the_next_start(
    installed: Callable[..., None], home: Path
) -> None:
    installed("echo")
    with served("--prewarm-last") as module:
        async with connect(module.url) as llm, bounded():
            await llm.load("echo")
        await until((home / "last-provider").exists, "it is remembered")
        module.process.terminate()
        assert module.wait() == 0
    assert (home / "last-provider").read_text("utf-8") == "echo\n"
    if sys.platform != "win32":
        assert stat.S_IMODE((home / "last-provider").stat().st_mode) == 0o600
    with served("--prewarm-last") as module:
        async with connect(module.url) as llm:
            pid = await warm(llm)
            async with bounded():
                await llm.load("echo")
            assert await pids(llm) == [pid]


async def test_without_being_asked_to_it_remembers_nothing(installed: Callable[..., None], home: Path) -> None:
    installed("echo")
    async with running_module(home, workers=WorkerSettings(prewarm=("echo",))) as module, connect(module.url) as llm:
        await warm(llm)
        await llm.load("echo")
    assert not (home / "last-provider").exists()


def test_a_command_with_a_module_of_its_own_prewarms_nothing(installed: Callable[..., None], home: Path) -> None:
    installed("echo")
    done = subprocess.run(
        [sys.executable, "-m", "waifu_llm.cli", "chat", "echo", "--prompt", "hello"],
        env={**os.environ, "WAIFU_LLM_WORKERS_PREWARM": "openai", "WAIFU_LLM_WORKERS_PREWARM_LAST": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    assert done.stdout
    assert "not prewarmed" not in (home / "logs" / "waifu-llm.log").read_text("utf-8")
    assert not (home / "last-provider").exists()
