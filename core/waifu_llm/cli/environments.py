"""The environment store for the time of one command."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext

from waifu_llm.catalog import Manifest
from waifu_llm.cli.context import Context
from waifu_llm.cli.output import note
from waifu_llm.cli.progress import Progress
from waifu_llm.cli.quiet import log_to_file
from waifu_llm.cli.text import size
from waifu_llm.config import Settings
from waifu_llm.environment.model import BuildProgress, Removal
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.errors import ModuleError
from waifu_llm.supervision.process import Processes


@asynccontextmanager
async def environment_store(context: Context, progress: Progress | None = None) -> AsyncIterator[EnvironmentStore]:
    """The store of this home; at the end no build of this command goes on. uv draws in the place of `progress`.

    With `progress` it is a store to build with: what went wrong is then in the log, for the sentence says so.
    Raises: UsageError, PrivateFileError.
    """
    settings = context.settings()
    quiet = nullcontext() if progress is None else log_to_file(context.own_home().logs, settings.log.level)
    with quiet as redactor:
        if redactor is not None:
            redactor.add_found(context.environ, (settings.uv.index, settings.uv.find_links))
        async with _store(context, settings, progress) as store:
            yield store


@asynccontextmanager
async def _store(context: Context, settings: Settings, progress: Progress | None) -> AsyncIterator[EnvironmentStore]:
    async with Processes(None if progress is None else progress.drawing) as processes:
        store = EnvironmentStore(
            context.home, settings.uv, processes.run, context.environ, settings.workers.build_silence_s
        )
        try:
            yield store
        finally:
            await store.close()


async def build(store: EnvironmentStore, manifests: Sequence[Manifest], done: str, progress: Progress) -> int:
    """Build each; one that fails does not keep the others from it. Returns how many failed."""
    failed = 0
    for manifest in manifests:

        def show(step: BuildProgress, name: str = manifest.name) -> None:
            progress.show(f"{name}: {step.detail}", step.fraction)

        try:
            with progress:
                await store.ensure(manifest, show)
        except ModuleError as error:
            failed += 1
            note(f"waifu-llm: {manifest.name}: {error.message}")
        else:
            taken = await store.sizes(manifest.name)
            note(f"{manifest.name} is {done} ({size(taken.own + taken.shared)})")
    return failed


def tell_removals(removals: Sequence[Removal]) -> int:
    """Say what was removed and what was not; returns how many were kept."""
    for removal in removals:
        if removal.kept is None:
            note(f"removed {_name(removal)}, {size(removal.freed)} are free again")
        else:
            note(f"waifu-llm: {_name(removal)} stays: {removal.kept}")
    return sum(removal.kept is not None for removal in removals)


def _name(removal: Removal) -> str:
    return f"{removal.folder.parent.name}/{removal.folder.name}"
