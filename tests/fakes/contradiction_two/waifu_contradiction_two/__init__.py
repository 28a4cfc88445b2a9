"""A worker that needs the second major version of a library: there its error is defined in a module of its own."""

import os
from collections.abc import AsyncIterator, Sequence
from importlib.metadata import version

import iniconfig

from waifu_worker.provider import Finish, GenerateRequest, LoadRequest, LoadResult, Piece
from waifu_worker.provider import Provider as Interface
from waifu_worker.wire import ModelInfo

MODELS = (ModelInfo(id="which"),)
if iniconfig.ParseError.__module__ != "iniconfig.exceptions":
    raise ImportError("this needs iniconfig 2")


class Provider(Interface):
    """Says which library it runs on, and in which process."""

    async def load(self, request: LoadRequest) -> LoadResult:
        """Nothing to check."""
        return LoadResult(MODELS)

    async def models(self) -> Sequence[ModelInfo]:
        """The one there is."""
        return MODELS

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """The version, and the process."""
        yield f"{version('iniconfig')} "
        yield str(os.getpid())
        yield Finish("stop")
