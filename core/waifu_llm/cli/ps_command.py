"""`waifu-llm ps`."""

import time
from argparse import Namespace

import msgspec

from waifu_client.errors import LLMError
from waifu_client.protocol import GetStatsDone, WorkerStats
from waifu_llm.cli.context import Context
from waifu_llm.cli.output import note, say, say_json
from waifu_llm.cli.reach import reach
from waifu_llm.cli.text import duration, size, table
from waifu_llm.runfile import RunningModule, running_modules

_HEADS = ("NAME", "KIND", "STATE", "PID", "MEMORY", "RUNNING", "QUEUED", "UP", "RESTARTS", "ADDRESS")


def run(args: Namespace) -> int:
    """Print each running module, its workers and its gateways."""
    modules = running_modules(Context().home)
    answers = _answers(modules) if modules else []
    if args.json:
        say_json([_as_json(module, answer) for module, answer in zip(modules, answers, strict=True)])
        return 0
    if not modules:
        note("no module runs; `waifu-llm serve` starts one")
    for module, answer in zip(modules, answers, strict=True):
        say(f"{module.url}  pid {module.pid}, up {duration(max(0.0, time.time() - module.started))}{_clients(answer)}")
        say(_described(answer))
    return 0


def _answers(modules: list[RunningModule]) -> list[GetStatsDone | LLMError]:
    import asyncio  # late, as the client: where no module runs there is nobody to ask

    return asyncio.run(_ask_all(modules))


async def _ask_all(modules: list[RunningModule]) -> list[GetStatsDone | LLMError]:
    return [await _ask(module) for module in modules]


async def _ask(module: RunningModule) -> GetStatsDone | LLMError:
    try:
        client = await reach(module)
        try:
            return await client.stats()
        finally:
            await client.aclose()
    except LLMError as error:
        return error


def _clients(answer: GetStatsDone | LLMError) -> str:
    if isinstance(answer, LLMError):
        return ""
    others = max(0, answer.connections - 1)  # one of them asks this
    return f", {others} client" if others == 1 else f", {others or 'no'} clients"


def _described(answer: GetStatsDone | LLMError) -> str:
    if isinstance(answer, LLMError):
        return f"  does not answer: {answer.message}"
    if not answer.workers:
        return "  no workers"
    rows = table(_HEADS, [_row(worker) for worker in answer.workers])
    return "\n".join(f"  {line}" for line in rows.splitlines())


def _row(worker: WorkerStats) -> tuple[str, ...]:
    gateway = worker.kind == "gateway"
    return (
        worker.provider,
        "gateway" if gateway else "provider",
        worker.state,
        "-" if worker.pid is None else str(worker.pid),
        _memory(worker),
        "-" if gateway else str(worker.running),
        "-" if gateway else str(worker.queued),
        duration(worker.uptime_s),
        str(worker.restarts),
        worker.address or "-",
    )


def _memory(worker: WorkerStats) -> str:
    limit = worker.memory_limit_bytes
    return size(worker.memory_bytes) if limit is None else f"{size(worker.memory_bytes)} of {size(limit)}"


def _as_json(module: RunningModule, answer: GetStatsDone | LLMError) -> dict[str, object]:
    known: dict[str, object] = {"url": module.url, "pid": module.pid, "started": module.started}
    if isinstance(answer, LLMError):
        return {**known, "error": answer.message}
    stats = msgspec.to_builtins(answer)
    return {**known, **{name: stats[name] for name in ("connections", "workers", "environments", "counters")}}
