"""Owns the gateways of a run: which are enabled, what each is told, and the token by which the server knows them."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from waifu_client.protocol import WorkerStats
from waifu_llm.catalog import Catalog, Manifest
from waifu_llm.config import Settings
from waifu_llm.environment import folders
from waifu_llm.environment.model import Environment
from waifu_llm.errors import ModuleError, UsageError
from waifu_llm.paths import Home
from waifu_llm.supervision.fields import gateway_options
from waifu_llm.supervision.gateway import Gateway, OnReady
from waifu_llm.supervision.life import OnProgress, Recipe
from waifu_worker.wire import Start

_log = logging.getLogger(__name__)


class Gateways:
    """All of them. `recipe` tells how the process of a manifest is started."""

    def __init__(self, settings: Settings, catalog: Catalog, home: Home, recipe: Callable[[Manifest], Recipe]) -> None:
        self._settings = settings
        self._catalog = catalog
        self._home = home
        self._recipe = recipe
        self._gateways: list[Gateway] = []
        self.enabled = frozenset(name for name, table in settings.gateway.items() if table.get("enabled") is True)
        self.token = secrets.token_urlsafe(32) if self.enabled else None

    def start(self, url: str, on_ready: OnReady) -> None:
        """Start those that are enabled, in the background. `url` is where the module listens for them.

        `on_ready` gets the name and the address of each that listens, again where it was started again. What keeps one
        from serving is told in the log, and never keeps the module from it.
        """
        for name in sorted(self.enabled):
            try:
                gateway = self._gateway(name, url, on_ready)
            except ModuleError as error:
                _log.error("the gateway %s is not started: %s", name, error.message)
            else:
                self._gateways.append(gateway)
                gateway.begin()

    def _gateway(self, name: str, url: str, on_ready: OnReady) -> Gateway:
        assert self.token is not None
        manifest = self._catalog.find(name)
        if manifest.declared.kind != "gateway":
            raise UsageError(f"{name} is a provider, not a gateway")
        options = gateway_options(manifest, self._settings.gateway[name])
        if self._settings.token and "token_file" in options and not options["token_file"]:
            _log.warning(
                "whoever reaches the gateway %s uses this module without its token: set gateway.%s.token_file",
                name,
                name,
            )
        start = Start(
            url=url,
            token=self.token,
            settings=options,
            data_dir=str(self._home.data / name),
            log_level=self._settings.log.level,
        )
        recipe = self._recipe(manifest)

        async def prepare(manifest: Manifest, on_progress: OnProgress) -> Environment:
            folders.private(self._home.root, self._home.data, self._home.data / name)
            return await recipe.prepare(manifest, on_progress)

        return Gateway(replace(recipe, prepare=prepare), start, on_ready)

    def stats(self) -> list[WorkerStats]:
        """How each of them fares."""
        return [gateway.stats() for gateway in self._gateways]

    def stop(self) -> Awaitable[object]:
        """Stop all of them; it begins with the call. Cancelling it leaves processes that the guardian ends."""
        return asyncio.gather(*[gateway.stop() for gateway in self._gateways])
