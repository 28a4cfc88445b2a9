"""`waifu-llm uninstall NAME…`."""

import asyncio
from argparse import Namespace

from waifu_llm.cli.context import Context
from waifu_llm.cli.environments import environment_store, tell_removals
from waifu_llm.cli.output import note


def run(args: Namespace) -> int:
    """Remove them, and say what became free."""
    return asyncio.run(_uninstall(Context(), list(dict.fromkeys(args.names))))


async def _uninstall(context: Context, names: list[str]) -> int:
    async with environment_store(context) as store:
        installed = {entry.name for entry in store.installed()}
        for name in names:
            if name not in installed:
                context.catalog.find(name)
        gateways = {manifest.name for manifest in context.catalog.gateways()}
        kept = 0
        for name in names:
            if name not in installed:
                note(f"{name} is not installed")
            if stay := tell_removals(await store.remove(name)):
                kept += stay
                note(f"run `waifu-llm stop{'' if name in gateways else f' {name}'}` first")
        return 1 if kept else 0
