"""A scripted provider and its driver."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

import pytest
from support.scripted_provider import Scripted
from support.waiting import bounded

from waifu_worker.provider import Finish, GenerateRequest, LoadResult, Piece
from waifu_worker.testing import Driver


@pytest.fixture
def script() -> type[Scripted]:
    """A fresh class per test."""

    class Fresh(Scripted):
        loading: ClassVar[list[BaseException | LoadResult]] = []
        pieces: ClassVar[Sequence[Piece | BaseException | asyncio.Event]] = ("hello ", "world", Finish("stop"))
        ignoring: ClassVar[Sequence[str]] = ()
        heard: ClassVar[list[GenerateRequest]] = []
        made: ClassVar[list[Scripted]] = []

    return Fresh


@pytest.fixture
async def driver(script: type[Scripted]) -> AsyncIterator[Driver]:
    async with bounded(), Driver(script) as driver:
        await driver.load()
        yield driver
