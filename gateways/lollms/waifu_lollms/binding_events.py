"""Bindings and models: which there are, and which one is selected for everybody."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from waifu_client import Client, Models, Providers
from waifu_client.protocol import ProviderDetails
from waifu_lollms import listings
from waifu_lollms.client import Notices, SocketClient
from waifu_lollms.payloads import Payload, Refused, Replies, name_of
from waifu_lollms.selection import SUPERSEDED, Choice, Selection

Handler: TypeAlias = Callable[[SocketClient, Payload], Awaitable[Replies]]

_NAMED: Final = 8  # models that an error names


class BindingEvents:
    """The handlers of these events. They raise Refused and LLMError; cancelling one is safe and selects nothing."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    def handlers(self) -> Mapping[str, Handler]:
        """By event."""
        return {
            "list_available_bindings": self.list_bindings,
            "list_available_models": self.list_models,
            "select_binding": self.select_binding,
            "select_model": self.select_model,
        }

    async def list_bindings(self, client: SocketClient, _: Payload) -> Replies:
        """One entry for each provider."""
        entries = listings.bindings(await self._providers(client), self._selection.models)
        selected = self._selection.choice.binding or ""
        return (("bindings_list", {"success": True, "bindings": entries, "binding_name": selected}),)

    async def list_models(self, client: SocketClient, _: Payload) -> Replies:
        """The models of the selected binding."""
        choice = self._selection.choice
        binding = choice.chosen_binding()
        models = await self._models(client, binding)
        details = await self._details(client, binding)
        entries = listings.models(models, binding, details)
        reply = {"success": True, "available_models": entries, "model_name": choice.model or ""}
        if models.warning is not None:
            reply["warning"] = models.warning
        return (("available_models_list", reply),)

    async def select_binding(self, client: SocketClient, payload: Payload) -> Replies:
        """Load it, and switch everybody to it where that worked."""
        name = name_of(payload, "binding_name")
        async with Notices(client) as notices:
            reply = await self._switch(client, name, notices)
        return (("select_binding", reply),)

    async def _switch(self, client: SocketClient, name: str, notices: Notices) -> Payload:
        """The reply. Raises: Refused, LLMError."""
        with self._selection.binding_race.entry() as entry:
            providers = await self._providers(client)
            if name not in providers.names:
                raise Refused(f"there is no binding {name[:80]!r}; there are: {', '.join(providers.names)}")
            entry.runs()
            await client.link.load(name, on_progress=notices.of(name))
            models = await self._models(client, name)
            if not entry.wins():
                raise Refused(SUPERSEDED)
            choice = Choice(name, self._selection.model_for(name, models))
            unsaved = await self._selection.choose(choice)
            return _selected(models.warning, unsaved, binding_name=name, model_name=choice.model or "")

    async def select_model(self, client: SocketClient, payload: Payload) -> Replies:
        """Switch everybody to a model of the selected binding."""
        binding = self._selection.choice.chosen_binding()
        name = name_of(payload, "model_name")
        with self._selection.model_race.entry() as entry:
            await self._check_model(client, binding, name)
            entry.runs()
            if not entry.wins() or self._selection.choice.binding != binding:
                raise Refused(SUPERSEDED)
            unsaved = await self._selection.choose(Choice(binding, name))
        return (("select_model", _selected(unsaved, model_name=name)),)

    async def _check_model(self, client: SocketClient, binding: str, name: str) -> None:
        """A list need not be complete: a provider that can try a model is asked to. Raises: Refused, LLMError."""
        models = await self._models(client, binding)
        if name in models.ids:
            return
        details = await self._details(client, binding)
        if details is not None and "preload" in details.abilities:
            async with Notices(client) as notices:
                await client.link.load(binding, name, notices.of(binding))
        elif models.ids and models.warning is None:
            named = ", ".join(models.ids[:_NAMED]) + (", ..." if len(models.ids) > _NAMED else "")
            raise Refused(f"{binding} has no model {name[:80]!r}; there are: {named}")

    async def _models(self, client: SocketClient, binding: str) -> Models:
        async def ask(module: Client) -> Models:
            return await module.models(binding)

        models = await client.link.ask_loaded(binding, ask)
        self._selection.models[binding] = models
        return models

    async def _providers(self, client: SocketClient) -> Providers:
        providers = await client.link.ask(Client.providers)
        self._selection.learn(providers)
        return providers

    async def _details(self, client: SocketClient, binding: str) -> ProviderDetails | None:
        if binding not in self._selection.details:
            await self._providers(client)
        return self._selection.details.get(binding)


def _selected(*warnings: str | None, **names: str) -> Payload:
    said = "; ".join(warning for warning in warnings if warning)
    return {"success": True, **names, **({"warning": said} if said else {})}
