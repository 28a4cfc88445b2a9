"""What `waifu-llm check` looks at: each look adds facts, and problems as sentences that say what to do."""

import errno
import platform
import tempfile
from pathlib import Path
from typing import Final

from waifu_llm import __version__
from waifu_llm.cli.context import Context
from waifu_llm.cli.findings import Findings
from waifu_llm.cli.gateway_inspection import look_at_gateways
from waifu_llm.cli.ports import bind_error, named, owner_of
from waifu_llm.cli.text import size
from waifu_llm.config import Settings, resolve
from waifu_llm.doors import ModuleDoors
from waifu_llm.environment import uv
from waifu_llm.environment.model import EnvironmentState
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.errors import ModuleError
from waifu_llm.private_files import mode_problem
from waifu_llm.runfile import running_modules
from waifu_llm.supervision.addresses import Upstreams
from waifu_llm.supervision.process import Processes

_LITTLE_DISK: Final = 1024**3
_UV_SILENCE_S: Final = 20.0
_NEW_UV: Final = "run: python -m pip install --upgrade --force-reinstall uv"


async def inspect(context: Context) -> Findings:
    """Look at everything; what fails does not keep the rest from being looked at. Changes nothing but the home."""
    findings = Findings({"version": f"waifu-llm {__version__}, Python {platform.python_version()}"})
    _look_at_home(context, findings)
    known = _look_at_config(context, findings)
    settings = known or Settings()
    _look_at_keys(context, findings)
    async with Processes() as processes:
        await _look_at_uv(context, processes, findings)
        store = EnvironmentStore(
            context.home, settings.uv, processes.run, context.environ, settings.workers.build_silence_s
        )
        _look_at_environments(context, store, findings)
    look_at_gateways(context, settings, store, findings)
    _look_at_running(context, findings)
    if known is not None:
        _look_at_port(context, known, findings)
    return findings


def _look_at_home(context: Context, findings: Findings) -> None:
    home = context.home
    findings.facts["home"] = str(home.root)
    try:
        context.own_home()
        with tempfile.TemporaryFile(dir=home.root):
            pass
    except (ModuleError, OSError) as error:
        what = error.message if isinstance(error, ModuleError) else f"{home.root}: {error.strerror}"
        findings.problems.append(f"the home cannot be written ({what}); change its rights or set WAIFU_LLM_HOME")
        return
    free = context.free_bytes()
    findings.facts["free disk"] = size(free)
    if free < _LITTLE_DISK:
        findings.problems.append(f"only {size(free)} are free where {home.root} lies; make room (`waifu-llm prune`)")


def _look_at_config(context: Context, findings: Findings) -> Settings | None:
    """The settings; None where they cannot be read."""
    file = context.home.config_file
    findings.facts["config"] = str(file) if file.exists() else "none (`waifu-llm check --write-config` writes one)"
    try:
        resolved = resolve(context.home, context.environ, catalog=context.catalog)
        findings.problems.extend(resolved.warnings)
        findings.problems.extend(ModuleDoors.of(resolved.settings.server, resolved.settings.token).warnings)
        Upstreams.of(resolved.settings.server)
    except ModuleError as error:
        findings.problems.append(error.message)
        return None
    server = resolved.settings.server
    findings.problems.extend(
        f"server.{key}: there is no file {path}"
        for key, path in (("tls_cert", server.tls_cert), ("tls_key", server.tls_key))
        if path is not None and not Path(path).is_file()
    )
    return resolved.settings


def _look_at_keys(context: Context, findings: Findings) -> None:
    home_problem = mode_problem(context.home.root)
    problems = context.keys.problems()
    findings.problems.extend(dict.fromkeys([*problems, *([home_problem] if home_problem else [])]))
    try:
        stored = [key.provider for key in context.keys.stored()]
    except ModuleError as error:
        findings.problems.append(error.message)
        return
    findings.facts["stored keys"] = ", ".join(stored) or "none"


async def _look_at_uv(context: Context, processes: Processes, findings: Findings) -> None:
    try:
        binary = uv.find_uv()
        completed = await processes.run(
            [binary, "--version"], env=uv.basic_environment(context.environ), silence_s=_UV_SILENCE_S
        )
        if completed.returncode == 0:
            findings.facts["uv"] = f"{uv.checked_version(completed.stdout)}, {binary}"
        else:
            findings.problems.append(f"uv ends with exit code {completed.returncode}; {_NEW_UV}")
    except ModuleError as error:
        findings.problems.append(error.message)
    except (OSError, TimeoutError) as error:
        findings.problems.append(f"uv cannot be run ({error}); {_NEW_UV}")


def _look_at_environments(context: Context, store: EnvironmentStore, findings: Findings) -> None:
    states: dict[EnvironmentState, list[str]] = {}
    installed = {entry.name for entry in store.installed()}
    for manifest in context.catalog.all():
        status = store.status(manifest)
        states.setdefault(status.state, []).append(manifest.name)
        if status.problem is not None and manifest.name in installed:
            findings.problems.append(
                f"the environment of {manifest.name} is broken: {status.problem}; run: waifu-llm update {manifest.name}"
            )
        elif status.problem is not None:
            findings.problems.append(status.problem)
    findings.problems.extend(error.message for error in context.catalog.broken.values())
    findings.facts["installed"] = ", ".join(states.get(EnvironmentState.READY, [])) or "none"
    if EnvironmentState.STALE in states:
        findings.facts["out of date"] = ", ".join(states[EnvironmentState.STALE]) + " (`waifu-llm update`)"


def _look_at_running(context: Context, findings: Findings) -> None:
    modules = running_modules(context.home)
    findings.facts["running"] = ", ".join(f"{module.url} (pid {module.pid})" for module in modules) or "no module"


def _look_at_port(context: Context, settings: Settings, findings: Findings) -> None:
    host, port = settings.server.host, settings.server.port
    error = bind_error(host, port)
    if error is None:
        return
    if error.errno != errno.EADDRINUSE:
        findings.problems.append(f"server.host: {host} cannot be listened on: {error.strerror}")
        return
    owner = owner_of(port)
    if owner not in {module.pid for module in running_modules(context.home)}:
        findings.problems.append(
            f"port {port} is in use by {named(owner)}; end it, or choose another one (--port, server.port)"
        )
