"""What can be told about providers and workers, for `get_providers` and `get_stats`."""

import contextlib

import psutil
from msgspec import UNSET

from waifu_client.protocol import OptionDetails, ProviderDetails
from waifu_llm.catalog import KeyNeed, Manifest


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


def resident_bytes(pid: int | None) -> int | None:
    """Resident memory of a process and its children, or None where there is none."""
    if pid is None:
        return None
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for part in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += part.memory_info().rss
    return total or None
