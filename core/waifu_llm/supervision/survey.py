"""What can be told about providers and workers, for `get_providers` and `get_stats`."""

import contextlib
from collections.abc import Collection

from msgspec import UNSET

from waifu_client.protocol import OptionDetails, ProviderDetails
from waifu_llm.catalog import KeyNeed, Manifest
from waifu_llm.supervision.weight import Weights


def provider_details(manifest: Manifest, *, installed: bool, running: bool, has_key: bool) -> ProviderDetails:
    """What a program can show about a provider before loading it."""
    declared = manifest.declared
    return ProviderDetails(
        title=declared.title,
        description=declared.description,
        homepage=declared.homepage,
        category=declared.category,
        installed=installed,
        running=running,
        needs_api_key=declared.key.need is KeyNeed.REQUIRED,
        has_api_key=has_key,
        abilities=list(declared.abilities),
        default_model=declared.default_model,
        author=manifest.author,
        version=manifest.version,
        size_bytes=round(declared.download_mb * 2**20),
        options={
            name: OptionDetails(
                type=option.type, help=option.help, default=option.default, choices=list(option.choices) or UNSET
            )
            for name, option in declared.options.items()
        },
    )


def weigh(pids: Collection[int]) -> Weights:
    """Resident memory of these children of ours, each with its own children. Reads all of /proc: call it in a thread.

    What has ended is left out.
    """
    import psutil  # late: the module listens before it weighs anything

    parents: dict[int, int] = {}
    resident: dict[int, int] = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error), process.oneshot():
            parents[process.pid], resident[process.pid] = process.ppid(), process.memory_info().rss
    by_pid = dict.fromkeys((pid for pid in pids if pid in resident), 0)
    for part, size in resident.items():
        one: int | None = part
        while one is not None and one not in by_pid:
            one = parents.get(one)
        if one is not None:
            by_pid[one] += size
    memory = psutil.virtual_memory()
    return Weights(by_pid, memory.total, memory.available)
