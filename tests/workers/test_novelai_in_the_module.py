"""novelai through the whole module: its own environment, its own process, a client over the socket."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes.upstream.novelai_api import CHAT_MODELS, GOOD_TOKEN, VOCABULARIES, NovelAI
from fakes.upstream.scenario import SAYINGS
from fakes.upstream.server import Upstream, running
from support.contract import Described, ended
from support.module_contract import WORDS, ModuleContract
from support.waiting import bounded

from waifu_client import Client
from waifu_client.errors import Interrupted, InvalidPrompt

KNOWN = (*CHAT_MODELS, *VOCABULARIES)


class TestChatRouteInTheModule(ModuleContract):
    described = Described("novelai", NovelAI, GOOD_TOKEN, "glm-4-6", path="")
    models = KNOWN


class TestOlderRouteInTheModule(ModuleContract):
    described = Described("novelai", NovelAI, GOOD_TOKEN, "kayra-v1", path="")
    models = KNOWN

    @pytest.fixture
    def service(self) -> NovelAI:
        return NovelAI()

    @pytest.fixture
    async def upstream(self, service: NovelAI) -> AsyncIterator[Upstream]:
        async with running(service) as upstream:
            yield upstream

    async def test_the_next_generation_waits_for_its_turn_and_begins_when_it_is_free(
        self, llm: Client, upstream: Upstream
    ) -> None:
        async with bounded():
            first = llm.stream("Hi", model_id="llama-3-erato-v1;fail=stall")
            pieces = aiter(first)
            assert await anext(pieces) == SAYINGS["words"][0]
            second = asyncio.ensure_future(llm.generate("Hi", model_id="glm-4-6"))
            await llm.models()
            assert len(upstream.exchanges) == 2, "a load and one generation"
            await llm.interrupt(first.request_id)
            with pytest.raises(Interrupted):
                _ = [piece async for piece in pieces]
            assert (await second).text == WORDS
        assert await ended(upstream, 1) in ("eof", "reset")

    async def test_a_lock_that_lingers_is_waited_for(self, llm: Client, service: NovelAI, upstream: Upstream) -> None:
        service.linger = 1
        async with bounded():
            assert (await llm.generate("Hi", model_id="glm-4-6")).text == WORDS
        assert len(upstream.exchanges) == 3

    async def test_token_ids_as_stops_work_where_the_models_are_older_ones(
        self, llm: Client, upstream: Upstream
    ) -> None:
        async with bounded():
            assert (await llm.generate("Hi", model_id="kayra-v1", stop_tokens=[85])).text == WORDS
            with pytest.raises(InvalidPrompt, match="stop texts"):
                await llm.generate("Hi", model_id="glm-4-6", stop_tokens=[85])
        assert b'"stop_sequences":[[85]]' in upstream.exchanges[1].body
