"""`waifu-llm update [NAME…]`."""

import asyncio
from argparse import Namespace
from collections.abc import Sequence

from waifu_llm.catalog import Manifest
from waifu_llm.cli.context import Context
from waifu_llm.cli.environments import build, environment_store
from waifu_llm.cli.output import note
from waifu_llm.cli.progress import Progress
from waifu_llm.environment.model import EnvironmentState


def run(args: Namespace) -> int:
    """Rebuild what is out of date."""
    context = Context()
    chosen = [context.catalog.find(name) for name in dict.fromkeys(args.names)]
    return asyncio.run(_update(context, chosen or context.catalog.all(), named=bool(chosen)))


async def _update(context: Context, manifests: Sequence[Manifest], *, named: bool) -> int:
    progress = Progress()
    async with environment_store(context, progress) as store:
        installed = {entry.name for entry in store.installed()}
        old = []
        for manifest in manifests:
            if manifest.name not in installed:
                if named:
                    note(f"{manifest.name} is not installed; `waifu-llm install {manifest.name}` installs it")
            elif store.status(manifest).state is not EnvironmentState.READY:
                old.append(manifest)
        if not old:
            note("nothing is out of date")
            return 0
        failed = await build(store, old, "up to date", progress)
        note("`waifu-llm prune` removes what the old ones leave")
        return 1 if failed else 0
