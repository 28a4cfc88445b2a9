"""`waifu-llm models PROVIDER`."""

import asyncio
from argparse import Namespace

import msgspec

from waifu_client import Models
from waifu_llm.catalog import Manifest
from waifu_llm.cli.connection import load, module_client
from waifu_llm.cli.context import Context
from waifu_llm.cli.names import provider_named
from waifu_llm.cli.output import note, say, say_json, warn
from waifu_llm.cli.text import one_line


def run(args: Namespace) -> int:
    """Print one model id per line."""
    context = Context()
    manifest = provider_named(context.catalog, args.provider, "models belong to providers: `waifu-llm list` names them")
    models = asyncio.run(_models(context, manifest))
    if models.warning:
        warn(models.warning)
    if args.json:
        details = {name: msgspec.to_builtins(known) for name, known in models.details.items()}
        say_json({"provider": manifest.name, "models": list(models.ids), "details": details})
        return 0
    for model in models.ids:
        say(one_line(model))
    if not models.ids and not models.warning:
        note(f"{manifest.name} lists no models")
    return 0


async def _models(context: Context, manifest: Manifest) -> Models:
    async with module_client(context) as connected:
        await load(connected, manifest)
        return await connected.client.models(manifest.name)
