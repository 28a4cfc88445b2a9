"""`waifu-llm stop [PROVIDER]`."""

import asyncio
from argparse import Namespace
from typing import Final

from waifu_client.errors import LLMError
from waifu_llm.cli.context import Context
from waifu_llm.cli.names import provider_named
from waifu_llm.cli.output import note
from waifu_llm.cli.reach import reach
from waifu_llm.errors import ModuleError
from waifu_llm.runfile import RunningModule, running_modules

# The module itself needs at most 10 s, and mostly far less than one.
_STOP_S: Final = 12.0
_SOON_S: Final = 1.0


def run(args: Namespace) -> int:
    """Stop it, or them all, and say what was stopped and what was not."""
    context = Context()
    if args.provider is not None:
        provider_named(context.catalog, args.provider, "it stops with its module: `waifu-llm stop`")
    modules = running_modules(context.home)
    if not modules:
        raise ModuleError("no module runs")
    return asyncio.run(_stop(modules, args.provider))


async def _stop(modules: list[RunningModule], provider: str | None) -> int:
    failed = False
    for module in modules:
        try:
            await (_close(module) if provider is None else _unload(module, provider))
        except ModuleError as error:
            note(f"waifu-llm: {error.message}")
            failed = True
    return 1 if failed else 0


async def _unload(module: RunningModule, provider: str) -> None:
    try:
        client = await reach(module)
        try:
            alive = [worker for worker in (await client.stats()).workers if worker.provider == provider and worker.pid]
            await client.unload(provider)
        finally:
            await client.aclose()
    except LLMError as error:
        raise ModuleError(
            f"the module at {module.url} (pid {module.pid}) did not stop {provider}: {error.message}"
        ) from error
    note(f"{provider} is stopped" if alive else f"{provider} was not running")


async def _close(module: RunningModule) -> None:
    try:
        client = await reach(module)
        try:
            await client.close_module()
        finally:
            await client.aclose()
    except LLMError as error:
        import psutil

        if psutil.pid_exists(module.pid):
            raise ModuleError(
                f"the module at {module.url} (pid {module.pid}) does not answer: {error.message}"
            ) from error
    if not await asyncio.to_thread(_gone, module.pid, _SOON_S) and (
        await _lets_in(module) or not await asyncio.to_thread(_gone, module.pid, _STOP_S)
    ):
        raise ModuleError(
            f"the module at {module.url} does not stop for a client (remote_close); press Ctrl-C where it runs, "
            f"or run: kill {module.pid}"
        )
    note(f"the module at {module.url} is stopped")


async def _lets_in(module: RunningModule) -> bool:
    """Whether it takes connections; one that stops takes none from the beginning on."""
    try:
        await (await reach(module)).aclose()
    except LLMError:
        return False
    return True


def _gone(pid: int, seconds: float) -> bool:
    """Whether the process ended in time."""
    import psutil

    try:
        psutil.Process(pid).wait(seconds)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True
