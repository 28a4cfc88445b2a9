"""This server's own keys, looked up in threads: a keyring may ask its owner first, or never answer."""

import asyncio
from collections.abc import Callable
from typing import Final

from waifu_llm.catalog import Manifest
from waifu_llm.environment.thread import in_thread
from waifu_llm.errors import Closing, StartFailed

# Its owner may have to come and unlock it.
PATIENCE_S: Final = 60.0


class OwnKeys:
    """At most one look per provider at a time, however many ask; one that hangs holds nobody's stop up.

    `find` gives the key, or None, or raises ModuleError; it is called in a thread.
    """

    def __init__(self, find: Callable[[Manifest], str | None], patience_s: float = PATIENCE_S) -> None:
        self._find = find
        self._patience_s = patience_s
        self._looks: dict[str, asyncio.Task[str | None]] = {}

    async def of(self, manifest: Manifest) -> str | None:
        """The key, or None. Cancelling it is safe: the look goes on.

        Raises: StartFailed where none came in time; Closing; ModuleError.
        """
        look = self._looks.get(manifest.name)
        if look is None:
            look = self._looks[manifest.name] = asyncio.create_task(in_thread(self._find, manifest))
            look.add_done_callback(lambda look: self._over(manifest.name, look))
        await asyncio.wait({look}, timeout=self._patience_s)
        if not look.done():
            raise StartFailed(
                f"the keyring did not give this server's key of {manifest.name} within {self._patience_s:g} s; "
                "unlock it, or set the provider's variable"
            )
        if look.cancelled():
            raise Closing("the module is stopping")
        return look.result()

    def _over(self, name: str, look: asyncio.Task[str | None]) -> None:
        del self._looks[name]
        if not look.cancelled():
            look.exception()  # all who asked may have left

    def close(self) -> None:
        """Who waits for a key is told that the module stops; the threads are left to themselves."""
        for look in self._looks.values():
            look.cancel()
