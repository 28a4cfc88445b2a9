"""Builds one environment: aside, verified, started once, stamped, then renamed to where it belongs."""

import errno
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from waifu_llm.catalog import Manifest
from waifu_llm.config import UvSettings
from waifu_llm.environment import bytecode, uv
from waifu_llm.environment.folders import put_aside, remove_tree, temporary
from waifu_llm.environment.model import BuildProgress, Completed, Estimate, Run
from waifu_llm.environment.stamp import STAMP_FILE, Basis, Stamp
from waifu_llm.environment.startup import fingerprint, refuse_startup_code
from waifu_llm.environment.thread import Halt, in_thread
from waifu_llm.environment.uv_output import UvProgress, disk_is_full, failure, last_line, sentence
from waifu_llm.environment.verify import interpreter_identity, site_packages, verify
from waifu_llm.errors import InstallFailed
from waifu_llm.paths import Home
from waifu_worker.wire import MAGIC, WIRE_VERSION, Ready

_log = logging.getLogger(__name__)

Report = Callable[[BuildProgress], None]

_LOWEST: Final = 19
_START_S: Final = 120.0
_PROBE_S: Final = 30.0
_MB: Final = 1_000_000
# Unpacked, with what the first start compiles: measured 2.2 (aiohttp) to 3.6 (torch) times the download.
_UNPACKED: Final = 4
_LEAST_BYTES: Final = 20 * _MB
_DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Builder:
    """Runs uv and the new environment's Python, for the store; knows nothing of locks and of who asks."""

    def __init__(
        self, home: Home, settings: UvSettings, run: Run, environ: Mapping[str, str], silence_s: float
    ) -> None:
        self._home = home
        self._run = run
        self._uv_env = uv.uv_environment(environ, settings)
        self._env = uv.basic_environment(environ)
        self._silence_s = silence_s

    async def build(self, manifest: Manifest, lock: str, basis: Basis, seed: Path, report: Report) -> Path:
        """Build the environment of `manifest` and give its folder. Nobody else may be building it.

        Raises: InstallFailed, OSError. Cancelling it is safe: what was begun is removed. Cancelled again, it does not
        wait for that: what is left when this process ends is swept by the next one.
        """
        final = self._home.envs / basis.folder_name(manifest.name)
        program, version = await self._find_uv()
        halt = Halt()
        building = temporary(self._home.envs)
        try:
            fresh = await self._install(manifest, lock, program, building, report)
            report(BuildProgress("verifying the installed files", 0.85))
            packages = await in_thread(verify, building, fresh, halt)
            report(BuildProgress("starting it once", 0.9))
            await self._start_once(manifest, building, seed)
            await in_thread(_finish, building, final, _stamp(manifest, basis, version, packages), halt)
        finally:
            # A thread that nobody waits for any more must not rename what is being removed.
            halt.set()
            await in_thread(remove_tree, building)
        return final

    async def probe(self, folder: Path) -> str | None:
        """Why the Python of an environment does not run, as a sentence; None where it does. Cancelling it is safe."""
        python = uv.python_of(folder, sys.platform)
        try:
            done = await self._run([str(python), "-I", "-c", ""], env=self._env, silence_s=_PROBE_S)
        except TimeoutError:
            return "its Python hangs"
        except OSError as error:
            return f"its Python cannot be started ({error.strerror})"
        return None if done.returncode == 0 else f"its Python does not run ({last_line(done.tail)})"

    async def compile(self, folder: Path) -> bool:
        """Byte-compile what no start has compiled yet, at low priority; whether the folder is compiled now.

        The folder may be removed meanwhile. Cancelling it is safe. Raises: OSError.
        """
        before = _inode(folder)
        env = bytecode.environment(self._env, folder, site_packages(folder))
        done = await self._run(bytecode.command(_base_python()), env=env, nice=_LOWEST)
        return done.returncode == 0 and _inode(folder) == before

    def estimate(self, manifest: Manifest) -> Estimate:
        """What an install takes. Raises: InstallFailed where it cannot fit on the disk."""
        needed = max(_LEAST_BYTES, int(manifest.declared.download_mb * _MB * _UNPACKED))
        estimate = Estimate(manifest.declared.download_mb, needed, _free(self._home.root))
        if estimate.free_bytes < needed:
            raise InstallFailed(self._disk_full(manifest))
        return estimate

    def explain(self, manifest: Manifest, error: OSError) -> InstallFailed:
        """An error of the file system while the environment was made, with what to do about it."""
        if error.errno in _DISK_ERRORS:
            return InstallFailed(self._disk_full(manifest))
        return InstallFailed(
            sentence(
                f"{self._home.root} cannot be written ({error.strerror or error}); "
                "let this user write there, or set WAIFU_LLM_HOME to another folder"
            )
        )

    def _disk_full(self, manifest: Manifest) -> str:
        needed = max(_LEAST_BYTES, int(manifest.declared.download_mb * _MB * _UNPACKED))
        return sentence(
            f"the disk is full: {manifest.name} needs about {needed // _MB} MB ({needed} bytes) in {self._home.root}, "
            f"{_free(self._home.root) // _MB} MB are free; make room (waifu-llm prune), then load it again"
        )

    async def _find_uv(self) -> tuple[str, str]:
        program = uv.find_uv()
        return program, uv.checked_version((await self._uv([program, "--version"], None)).stdout)

    async def _install(
        self, manifest: Manifest, lock: str, program: str, folder: Path, report: Report
    ) -> dict[str, str]:
        """Returns the fingerprint of the environment from before anything was installed in it."""
        python = uv.python_of(folder, sys.platform)
        locked = folder / "requirements.lock"
        # Offline first: where everything is in uv's cache that is ten times faster. Each try begins anew.
        for offline in (True, False):
            report(BuildProgress("making an empty environment" if offline else "asking the package index", 0.05))
            made = await self._uv(uv.venv_command(program, folder, _base_python()), None)
            self._demand(manifest, made)
            fresh = await in_thread(fingerprint, folder)
            locked.write_text(lock, "utf-8")
            progress = None if offline else report
            synced = await self._uv(uv.sync_command(program, python, locked, offline=offline), progress)
            if synced.returncode == 0 or disk_is_full(synced.tail):
                break
        self._demand(manifest, synced)
        if manifest.declared.unhashed:
            # The second step asks the environment's own Python about itself: it must still be the one we made.
            await in_thread(refuse_startup_code, folder, fresh)
            pins = manifest.declared.unhashed
            for command in uv.unhashed_commands(program, python, pins, locked, self._uv_env):
                installed = await self._uv(command, report)
                if installed.returncode == 0 or disk_is_full(installed.tail):
                    break
            self._demand(manifest, installed)
        return fresh

    async def _uv(self, command: Sequence[str], report: Report | None) -> Completed:
        progress = UvProgress()

        def on_line(line: str) -> None:
            step = progress.feed(line)
            if step is not None and report is not None:
                report(step)

        try:
            return await self._run(
                command,
                env=self._uv_env,
                on_line=on_line,
                silence_s=self._silence_s,
                on_terminal=report is not None,
            )
        except TimeoutError as error:
            raise InstallFailed(
                f"uv said nothing for {self._silence_s:.0f} s and was ended; check the network, then load it again"
            ) from error
        except OSError as error:
            raise InstallFailed(sentence(f"uv cannot be started ({error}); install waifu-llm again")) from error

    def _demand(self, manifest: Manifest, done: Completed) -> None:
        if done.returncode == 0:
            return
        _log.warning("uv failed for %s (exit code %d):\n%s", manifest.name, done.returncode, done.tail)
        raise InstallFailed(self._disk_full(manifest) if disk_is_full(done.tail) else failure(manifest.name, done.tail))

    async def _start_once(self, manifest: Manifest, folder: Path, seed: Path) -> None:
        worker = manifest.declared.kind == "worker"
        # A worker has no parent but the core: where it died while that is frozen, nobody could take it away.
        program = [str(seed)] if worker else ["-c", _IMPORT, str(seed), manifest.declared.package]
        command = [str(uv.python_of(folder, sys.platform)), "-I", *program]
        try:
            done = await self._run(command, env=self._env, silence_s=_START_S, until_line=worker)
        except TimeoutError as error:
            raise InstallFailed(f"{manifest.name} was installed but hangs when it is started") from error
        if _is_ready(manifest, done):
            return
        _log.warning(
            "%s was installed but does not start (exit code %d):\n%s", manifest.name, done.returncode, done.tail
        )
        raise InstallFailed(
            sentence(
                f"{manifest.name} was installed but does not start: {last_line(done.tail)}; waifu-llm.log has the rest"
            )
        )


# A gateway says nothing before its `start` line, which needs a running module: it is only imported.
_IMPORT: Final = """\
import importlib, sys
sys.path.insert(0, sys.argv[1])
importlib.import_module(sys.argv[2])
"""


def _is_ready(manifest: Manifest, done: Completed) -> bool:
    if manifest.declared.kind == "gateway":
        return done.returncode == 0
    try:
        ready = msgspec.json.decode(done.stdout.partition("\n")[0], type=Ready)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return (ready.magic, ready.wire, ready.name) == (MAGIC, WIRE_VERSION, manifest.name)


def _base_python() -> str:
    """The interpreter that ours was made from: an environment must not hang on a virtual one that may go."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def _stamp(manifest: Manifest, basis: Basis, uv_version: str, packages: tuple[str, ...]) -> Stamp:
    base = _base_python()
    return Stamp(
        name=manifest.name,
        basis=basis,
        interpreter=base,
        version=".".join(map(str, sys.version_info[:3])),
        uv=uv_version,
        identity=interpreter_identity(Path(base)),
        packages=packages,
    )


def _finish(building: Path, final: Path, stamp: Stamp, halt: Halt) -> None:
    with (building / STAMP_FILE).open("wb") as file:
        file.write(stamp.encode())
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(building)
    with halt.last_step():
        old = put_aside(final) if os.path.lexists(final) else None
        building.rename(final)
    _sync_folder(final.parent)
    if old is not None:
        remove_tree(old)


def _inode(folder: Path) -> int:
    """Another folder of the same name has another one. Raises: OSError."""
    return folder.stat().st_ino


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
