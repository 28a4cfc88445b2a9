"""openai_compatible through the whole module: its own environment, its own process, a client over the socket."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.upstream.compatible_api import GOOD_KEY, Compatible, Open
from fakes.upstream.server import running
from support.contract import Described
from support.module_contract import ModuleContract
from support.running_module import running_module
from support.waiting import bounded

from waifu_client import connect
from waifu_client.errors import UnexpectedError


class TestInTheModule(ModuleContract):
    described = Described(provider="openai_compatible", api=Compatible, key=GOOD_KEY, model="local", path="/v1")
    models = ("local", "thinker")


async def test_the_servers_own_key_goes_to_its_own_address_and_to_none_that_a_client_chose(
    home: Path, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("openai_compatible")
    async with running(Open()) as own, running(Open()) as other, bounded():
        monkeypatch.setenv("OPENAI_COMPATIBLE_API_KEY", GOOD_KEY)
        monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", own.url + "/v1")
        async with running_module(home) as module, connect(module.url) as llm:
            await llm.load("openai_compatible")
            await llm.generate("Hi", model_id="local")
            for preset in (None, "vllm", ""):
                await llm.load("openai_compatible", base_url=other.url + "/v1", preset=preset)
            await llm.generate("Hi", model_id="local")
    assert {exchange.headers.get("authorization") for exchange in own.exchanges} == {f"Bearer {GOOD_KEY}"}
    assert {exchange.headers.get("authorization") for exchange in other.exchanges} == {None}
    assert len(own.exchanges) == 2


async def test_a_load_that_says_nothing_of_where_is_told_what_to_give(
    home: Path, installed: Callable[..., None]
) -> None:
    installed("openai_compatible")
    async with running_module(home) as module, connect(module.url) as llm, bounded():
        with pytest.raises(UnexpectedError, match="base_url"):
            await llm.load("openai_compatible")
