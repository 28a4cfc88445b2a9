"""`waifu-llm list`."""

import asyncio
from argparse import Namespace
from typing import Final

import msgspec
from msgspec.structs import asdict

from waifu_llm.catalog import KeyNeed, Manifest
from waifu_llm.cli.context import Context
from waifu_llm.cli.environments import environment_store
from waifu_llm.cli.output import say, say_json, warn
from waifu_llm.cli.text import size, table
from waifu_llm.environment.model import EnvironmentState, Size
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.keys import has_key

_HEADS: Final = ("NAME", "KIND", "STATE", "VERSION", "SIZE", "SHARED", "KEY", "TITLE")
_STATES: Final = {
    EnvironmentState.MISSING: "not installed",
    EnvironmentState.STALE: "out of date",
    EnvironmentState.BROKEN: "broken",
    EnvironmentState.READY: "installed",
}


class _Entry(msgspec.Struct, frozen=True):
    manifest: Manifest
    state: EnvironmentState
    problem: str | None
    size: Size
    has_key: bool


def run(args: Namespace) -> int:
    """Print one line per provider, then one per gateway."""
    context = Context()
    entries = asyncio.run(_entries(context))
    if args.json:
        say_json([_as_json(entry) for entry in entries])
    else:
        say(table(_HEADS, [_row(entry) for entry in entries]))
    for error in context.catalog.broken.values():
        warn(error.message)
    return 0


async def _entries(context: Context) -> list[_Entry]:
    async with environment_store(context) as store:
        manifests = [*context.catalog.workers(), *context.catalog.gateways()]
        return [await _entry(context, store, manifest) for manifest in manifests]


async def _entry(context: Context, store: EnvironmentStore, manifest: Manifest) -> _Entry:
    status = store.status(manifest)
    sizes = await store.sizes(manifest.name)
    return _Entry(manifest, status.state, status.problem, sizes, has_key(manifest, context.environ, context.keys))


def _row(entry: _Entry) -> tuple[str, ...]:
    there = entry.size != Size()
    return (
        entry.manifest.name,
        "gateway" if entry.manifest.declared.kind == "gateway" else "provider",
        _STATES[entry.state],
        entry.manifest.version,
        size(entry.size.own) if there else "-",
        size(entry.size.shared) if there else "-",
        _key(entry),
        entry.manifest.declared.title,
    )


def _key(entry: _Entry) -> str:
    need = entry.manifest.declared.key.need
    if need is KeyNeed.NONE:
        return "-"
    return "set" if entry.has_key else "needed" if need is KeyNeed.REQUIRED else "optional"


def _as_json(entry: _Entry) -> dict[str, object]:
    declared = msgspec.to_builtins(entry.manifest.declared)
    return {
        "name": entry.manifest.name,
        "version": entry.manifest.version,
        "author": entry.manifest.author,
        "state": entry.state.value,
        "problem": entry.problem,
        "size_bytes": asdict(entry.size),
        "has_key": entry.has_key,
        **declared,
    }
