"""`waifu-llm prune`."""

import asyncio
from argparse import Namespace

from waifu_llm.cli.context import Context
from waifu_llm.cli.environments import environment_store, tell_removals
from waifu_llm.cli.output import note
from waifu_llm.cli.text import size


def run(args: Namespace) -> int:
    """Remove them, and say what became free."""
    return asyncio.run(_prune(Context()))


async def _prune(context: Context) -> int:
    # Nobody can tell what a manifest needs that cannot be read.
    for error in context.catalog.broken.values():
        raise error
    async with environment_store(context) as store:
        removals = await store.prune(context.catalog.all())
    tell_removals(removals)
    note(f"{size(sum(removal.freed for removal in removals))} became free")
    return 0
