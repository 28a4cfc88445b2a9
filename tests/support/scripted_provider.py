"""A provider that does what the test wrote down before it made the driver."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import ClassVar

import pytest

from waifu_worker.provider import Finish, GenerateRequest, LoadRequest, LoadResult, Piece, Provider
from waifu_worker.testing import RequestFailed
from waifu_worker.wire import (
    ChatMessage,
    Failed,
    ModelInfo,
    Params,
)

HELLO = (ChatMessage(role="user", content="hello"),)


class Scripted(Provider):
    """Does what the test wrote down before it made the driver."""

    loading: ClassVar[list[BaseException | LoadResult]] = []
    pieces: ClassVar[Sequence[Piece | BaseException | asyncio.Event]] = ()
    ignoring: ClassVar[Sequence[str]] = ()
    heard: ClassVar[list[GenerateRequest]] = []
    made: ClassVar[list["Scripted"]] = []

    def __init__(self) -> None:
        self.closed = 0
        self.left: list[type[BaseException] | None] = []
        self.made.append(self)

    async def load(self, request: LoadRequest) -> LoadResult:
        if not self.loading:
            return LoadResult((ModelInfo(id="m"),))
        step = self.loading.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step

    async def models(self) -> Sequence[ModelInfo]:
        return (ModelInfo(id="m"), ModelInfo(id="n"))

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
        self.heard.append(request)
        request.ignored.extend(self.ignoring)
        try:
            for piece in self.pieces:
                if isinstance(piece, str | list | Finish):
                    yield piece
                else:
                    await _happens(piece)
        except BaseException as error:
            self.left.append(type(error))
            raise
        self.left.append(None)

    async def close(self) -> None:
        self.closed += 1


async def _happens(what: BaseException | asyncio.Event) -> None:
    if isinstance(what, BaseException):
        raise what
    await what.wait()


def params(**more: object) -> Params:
    return Params(model_id="m", **more)  # type: ignore[arg-type]


async def failed(running: Awaitable[object]) -> Failed:
    with pytest.raises(RequestFailed) as caught:
        await running
    return caught.value.failed
