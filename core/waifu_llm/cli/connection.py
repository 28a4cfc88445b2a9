"""A client of the module that runs, else of one of our own for as long as it is needed."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn

import msgspec

from waifu_client import Client, LLMError
from waifu_client.protocol import LoadProgress
from waifu_llm.catalog import Manifest
from waifu_llm.cli.context import Context
from waifu_llm.cli.output import note, warn
from waifu_llm.cli.progress import Progress
from waifu_llm.cli.quiet import log_to_file
from waifu_llm.cli.reach import reach
from waifu_llm.cli.text import size
from waifu_llm.config import ServerSettings, Settings
from waifu_llm.errors import ModuleError
from waifu_llm.runfile import running_modules

LARGE_MB: Final = 200
_LONG_STAGES: Final = ("environment", "model")


class Connected(msgspec.Struct, frozen=True):
    """A client, and this command's own variables where the module does not have them: somebody else started it."""

    client: Client
    unseen: Mapping[str, str]


@asynccontextmanager
async def module_client(context: Context) -> AsyncIterator[Connected]:
    """Connected to the newest module of this home that answers, else to one of our own, which ends with the context.

    Raises: ModuleError, LLMError. Cancelling is safe: a module of our own is stopped first.
    """
    client = await _running(context)
    if client is not None:
        try:
            yield Connected(client, context.environ)
        finally:
            await client.aclose()
        return
    token = secrets.token_urlsafe()
    async with _own_module(context, token) as url:
        client = await Client.open(url, token=token)
        try:
            yield Connected(client, {})
        finally:
            await client.aclose()


async def load(connected: Connected, manifest: Manifest) -> None:
    """Load a provider with the keys and options that the module has for it; progress goes to stderr."""
    client = connected.client
    details = (await client.providers()).details.get(manifest.name)
    megabytes = manifest.declared.download_mb
    if details is not None and not details.installed and megabytes >= LARGE_MB:
        note(f"{manifest.name} is installed first: about {size(megabytes * 2**20)} to download (Ctrl-C stops it)")
    with Progress() as progress:

        def show(step: LoadProgress) -> None:
            tell = progress.show if step.stage in _LONG_STAGES else progress.pass_by
            tell(f"{manifest.name}: {step.detail or step.stage}", step.fraction)

        try:
            loaded = await client.load(manifest.name, on_progress=show)
        except LLMError as error:
            error.message += _unseen(connected.unseen, manifest)
            raise
    if loaded.warning:
        warn(loaded.warning)


def _unseen(environ: Mapping[str, str], manifest: Manifest) -> str:
    """Of a load that failed: which variables, set where this command was typed, the module does not know."""
    declared = manifest.declared
    names = (*declared.key.env, *(option.env for option in declared.options.values()))
    found = ", ".join(name for name in names if name and environ.get(name))
    told = f" (the module that runs was asked: it goes by its own variables, not by {found} of this shell)"
    return told if found else ""


async def _running(context: Context) -> Client | None:
    for module in running_modules(context.home):
        try:
            return await reach(module)
        except (LLMError, OSError, ValueError):
            continue  # it is just ending, or speaks to nobody here: a module of our own will do
    return None


@asynccontextmanager
async def _own_module(context: Context, token: str) -> AsyncIterator[str]:
    from waifu_llm.module import Announce, run_module

    settings = _private(context.settings(), token)
    home = context.own_home()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    with log_to_file(home.logs, settings.log.level) as redactor:
        module = asyncio.create_task(
            run_module(
                settings,
                home,
                context.environ,
                redactor=redactor,
                catalog=context.catalog,
                announce=Announce(listening.set_result),
                stop=stop,
            )
        )
        try:
            either: set[asyncio.Future[Any]] = {listening, module}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            yield listening.result() if listening.done() else await _ended(module)
        finally:
            stop.set()
            await module


async def _ended(module: asyncio.Task[int]) -> NoReturn:
    code = await module
    raise ModuleError(f"the module of this command ended with code {code}; see: waifu-llm logs waifu-llm")


def _private(settings: Settings, token: str) -> Settings:
    """The user's settings, on a free loopback port and for this command alone."""
    workers = msgspec.structs.replace(settings.workers, prewarm=(), prewarm_last=False)
    return msgspec.structs.replace(settings, server=ServerSettings(port=0), workers=workers, gateway={}, token=token)
