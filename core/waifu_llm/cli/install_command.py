"""`waifu-llm install NAME…`."""

import asyncio
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence

from waifu_llm.catalog import Manifest
from waifu_llm.cli.connection import LARGE_MB
from waifu_llm.cli.context import Context
from waifu_llm.cli.environments import build, environment_store
from waifu_llm.cli.output import note
from waifu_llm.cli.progress import Progress
from waifu_llm.cli.text import size
from waifu_llm.environment.model import EnvironmentState
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.errors import InstallFailed


def run(args: Namespace) -> int:
    """Build those that are not there."""
    context = Context()
    manifests = [context.catalog.find(name) for name in dict.fromkeys(args.names)]
    return asyncio.run(_install(context, manifests, yes=args.yes))


async def _install(context: Context, manifests: Sequence[Manifest], *, yes: bool) -> int:
    progress = Progress()
    async with environment_store(context, progress) as store:
        wanted = []
        for manifest in manifests:
            if store.status(manifest).state is EnvironmentState.READY:
                note(f"{manifest.name} is installed already")
            else:
                wanted.append(manifest)
        if not _agreed(store, wanted, yes=yes):
            note("nothing was installed")
            return 1
        return 1 if await build(store, wanted, "installed", progress) else 0


def _agreed(store: EnvironmentStore, manifests: Sequence[Manifest], *, yes: bool) -> bool:
    """Whether there is room, and whether a large download is wanted. Raises: InstallFailed."""
    estimates = [store.estimate(manifest) for manifest in manifests]
    needed = sum(estimate.needed_bytes for estimate in estimates)
    if estimates and needed > estimates[0].free_bytes:
        raise InstallFailed(
            f"together they need about {size(needed)}, and {size(estimates[0].free_bytes)} are free; "
            "install fewer, or make room (`waifu-llm prune`)"
        )
    megabytes = sum(estimate.download_mb for estimate in estimates)
    if megabytes < LARGE_MB:
        return True
    names = ", ".join(manifest.name for manifest in manifests)
    note(f"{names}: about {size(megabytes * 2**20)} to download and {size(needed)} on the disk")
    if yes or not sys.stdin.isatty():
        return True
    # The loop's own handler would only take note of Ctrl-C: the question would stay.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input("Go on? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
    finally:
        signal.signal(signal.SIGINT, before)
