"""What `waifu-llm check` looks at for the gateways that the config file enables."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from waifu_llm.catalog import Manifest
from waifu_llm.cli.context import Context
from waifu_llm.cli.findings import Findings
from waifu_llm.cli.ports import bind_error, named, owner_of
from waifu_llm.config import Settings
from waifu_llm.environment.model import EnvironmentState
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.runfile import running_modules

_LAST_PORT: Final = 65535


def look_at_gateways(context: Context, settings: Settings, store: EnvironmentStore, findings: Findings) -> None:
    """Add what is enabled, and what would keep it from serving."""
    enabled = [m for m in context.catalog.gateways() if settings.gateway.get(m.name, {}).get("enabled")]
    findings.facts["gateways"] = ", ".join(manifest.name for manifest in enabled) or "none is enabled"
    for manifest in enabled:
        if store.status(manifest).state is EnvironmentState.MISSING:
            findings.problems.append(
                f"the gateway {manifest.name} is enabled and not installed; run: waifu-llm install {manifest.name} "
                "(else the next `waifu-llm serve` does it first)"
            )
        table = settings.gateway[manifest.name]
        findings.problems.extend(_missing_files(manifest, table))
        findings.problems.extend(_port_problem(context, settings, manifest, table))


def _missing_files(manifest: Manifest, table: dict[str, object]) -> Iterator[str]:
    for key, option in manifest.declared.options.items():
        value = table.get(key)
        paths = value if isinstance(value, list) else [value]
        if option.type in ("path", "paths") and value is not None:
            yield from (
                f"gateway.{manifest.name}.{key}: there is no {path}" for path in paths if not Path(str(path)).exists()
            )


def _port_problem(context: Context, settings: Settings, manifest: Manifest, table: dict[str, object]) -> Iterator[str]:
    """Where the manifest has the options `host` and `port`, as a gateway that listens has them."""
    defaults = {key: option.default for key, option in manifest.declared.options.items()}
    host, port = ({**defaults, **table}.get(key) for key in ("host", "port"))
    if not isinstance(host, str) or not isinstance(port, int):
        return
    if not 0 <= port <= _LAST_PORT:
        yield f"gateway.{manifest.name}.port: {port} is not a port, a whole number from 0 to {_LAST_PORT}"
        return
    if port and port == settings.server.port:
        yield f"gateway.{manifest.name}.port and server.port are both {port}; choose another one for the gateway"
        return
    addresses = ("127.0.0.1", "::1") if host == "localhost" else (host,)
    if any(_in_use(address, port) for address in addresses) and not _is_ours(context, owner := owner_of(port)):
        yield (
            f"port {port}, where the gateway {manifest.name} would listen, is in use by {named(owner)}; "
            f"end it, or choose another one (gateway.{manifest.name}.port)"
        )


def _in_use(address: str, port: int) -> bool:
    error = bind_error(address, port)
    return error is not None and error.errno == errno.EADDRINUSE


def _is_ours(context: Context, pid: int | None) -> bool:
    """Whether it belongs to a module of this home that runs."""
    modules = {module.pid for module in running_modules(context.home)}
    try:
        return pid is not None and any(parent.pid in modules for parent in psutil.Process(pid).parents())
    except psutil.Error:
        return False
