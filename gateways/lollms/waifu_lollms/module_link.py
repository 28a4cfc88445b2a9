"""One program's connection to the module: opened when it is needed, once more when it was lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from waifu_client import Client, ConnectionLost, LLMError, LoadProgress

T = TypeVar("T")
OpenClient: TypeAlias = Callable[[], Awaitable[Client]]
OnProgress: TypeAlias = Callable[[LoadProgress], object]


class ModuleLink:
    """A client of the module and what it has loaded. Calls may be made and cancelled at any time, several at once.

    All raise LLMError; a call whose connection ends under it is made once more on a new one.
    """

    def __init__(self, open_client: OpenClient) -> None:
        self._open_client = open_client
        self._opening: asyncio.Task[Client] | None = None
        self._loaded: set[str] = set()
        self._closed = False

    async def ask(self, use: Callable[[Client], Awaitable[T]]) -> T:
        """What `use` gives; it may be called twice."""
        client = await self._client()
        try:
            return await use(client)
        except ConnectionLost:
            if self._closed:
                raise
        await self._forget(client)
        return await use(await self._client())

    async def ask_loaded(self, provider: str, use: Callable[[Client], Awaitable[T]]) -> T:
        """The same, with this provider loaded first where this connection has not loaded it yet."""

        async def load_and_use(client: Client) -> T:
            if provider not in self._loaded:
                await self._load(client, provider, None, None)
            try:
                return await use(client)
            except LLMError:
                # A worker that could not start stays down until somebody loads it again, and a key may be new by then.
                self._loaded.discard(provider)
                raise

        return await self.ask(load_and_use)

    async def load(self, provider: str, model_id: str | None = None, on_progress: OnProgress | None = None) -> None:
        """Load it, also where it is loaded; with a model, preload that."""
        await self.ask(lambda client: self._load(client, provider, model_id, on_progress))

    async def close(self) -> None:
        """End the connection and all that runs on it; a few seconds at most."""
        self._closed = True
        opening, self._opening = self._opening, None
        if opening is None:
            return
        opening.cancel()
        await asyncio.wait([opening])
        if not opening.cancelled() and opening.exception() is None:
            await opening.result().aclose()

    async def _load(self, client: Client, provider: str, model_id: str | None, on_progress: OnProgress | None) -> None:
        await client.load(provider, preload_model_id=model_id, on_progress=on_progress)
        self._loaded.add(provider)

    async def _client(self) -> Client:
        if self._closed:
            raise ConnectionLost("this client has left")
        if self._opening is None or (self._opening.done() and not _opened(self._opening)):
            self._loaded = set()
            self._opening = asyncio.ensure_future(self._open_client())
        # Shielded: others may wait for the same connection when one of them is cancelled.
        return await asyncio.shield(self._opening)

    async def _forget(self, client: Client) -> None:
        """This connection is lost; whoever finds out first makes room for a new one."""
        if self._opening is not None and _opened(self._opening) and self._opening.result() is client:
            self._opening = None
            await client.aclose()


def _opened(opening: asyncio.Task[Client]) -> bool:
    return opening.done() and not opening.cancelled() and opening.exception() is None
