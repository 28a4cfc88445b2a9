"""Small real workers, the wheels they need without any index, and ways to watch and hold what a store runs."""

import asyncio
import base64
import hashlib
import importlib.metadata
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from support.waiting import bounded, until

from waifu_llm.catalog import Manifest, read_manifest
from waifu_llm.config import UvSettings
from waifu_llm.environment.model import Completed, Environment, Run
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.environment.thread import Halt
from waifu_llm.environment.verify import verify
from waifu_llm.paths import Home

_PYPROJECT: Final = """\
[project]
name = "waifu-llm-{name}"
version = "1.2.3"
authors = [{{ name = "nobody" }}]
dependencies = ["msgspec"]

[tool.waifu-llm]
kind = "{kind}"
title = "{name}"
description = "A worker of the tests"
homepage = ""
category = "local"
package = "waifu_{name}"
{more}
"""

PROVIDER: Final = """\
from waifu_worker.provider import LoadResult, Provider as Base


class Provider(Base):
    async def load(self, request):
        return LoadResult(models=())

    async def models(self):
        return ()

    async def generate(self, request):
        yield ""
"""


def write_wheel(folder: Path, name: str, version: str, files: Mapping[str, bytes], tag: str = "py3-none-any") -> str:
    """A wheel of these files with an honest RECORD, in `folder`; its line for a lock."""
    info = f"{name}-{version}.dist-info"
    wheel = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": wheel.encode(),
    }
    record = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in content.items()]
    content[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    file = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, data in content.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def wheel_of_installed(folder: Path, name: str) -> str:
    """A wheel of a package as it is installed for the tests, for this machine alone; its line for a lock."""
    distribution = importlib.metadata.distribution(name)
    files = {
        path.as_posix(): Path(str(path.locate())).read_bytes()
        for path in distribution.files or ()
        if ".dist-info" not in path.as_posix() and path.suffix != ".pyc"
    }
    return write_wheel(folder, name, distribution.version, files)


def write_worker(
    root: Path, name: str, lock: str, *, provider: str = PROVIDER, kind: str = "worker", more: str = ""
) -> Manifest:
    """The folder of a worker or gateway, with what a store needs of it."""
    folder = root / name
    package = folder / f"waifu_{name}"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(_PYPROJECT.format(name=name, kind=kind, more=more), "utf-8")
    (folder / "requirements.lock").write_text(lock, "utf-8")
    (package / "__init__.py").write_text(provider, "utf-8")
    return read_manifest(folder)


def hermetic(wheels: Path, cache: Path) -> dict[str, str]:
    """An environment in which uv sees these wheels, a cache of the tests' own, and no index."""
    return {**os.environ, "UV_FIND_LINKS": str(wheels), "UV_NO_INDEX": "1", "UV_CACHE_DIR": str(cache)}


def open_store(home: Path, run: Run, environ: Mapping[str, str]) -> EnvironmentStore:
    """A store as the module makes it."""
    return EnvironmentStore(Home(home), UvSettings(), run, environ, 60.0)


class Watched:
    """A `Run` that records every command, and can hold or answer some of them itself."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.commands: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.more: list[dict[str, Any]] = []
        self.reached = asyncio.Event()
        self.ended = asyncio.Event()
        self.may_go = asyncio.Event()
        self._held: str | None = None
        self._last: str | None = None
        self._answers: dict[str, Completed | Exception] = {}

    def hold(self, word: str) -> None:
        """Commands with that word wait for `may_go`; `reached` tells that one came."""
        self._held = word

    def tell_end(self, word: str) -> None:
        """`ended` tells that a command with that word, or with an option of that name, has ended."""
        self._last = word
        self.ended.clear()

    def answer(self, word: str, answer: Completed | Exception) -> None:
        """Commands with that word are not run: they end like this."""
        self._answers[word] = answer

    def count(self, word: str) -> int:
        """How many commands had that word."""
        return sum(word in command for command in self.commands)

    async def __call__(self, argv: Sequence[str], *, env: Mapping[str, str], **more: Any) -> Completed:
        self.commands.append(list(argv))
        self.environments.append(dict(env))
        self.more.append(more)
        if self._held in argv:
            self.reached.set()
            await self.may_go.wait()
        for word, answer in self._answers.items():
            if word in argv:
                if isinstance(answer, Exception):
                    raise answer
                return answer
        try:
            return await self._run(argv, env=env, **more)
        finally:
            if self._last in (*argv, *more):
                self.ended.set()


def verified(folder: Path) -> None:
    """Every file of a finished environment is as its package says. Raises: InstallFailed."""
    verify(folder, {}, Halt())


async def built(store: EnvironmentStore, manifest: Manifest) -> Environment:
    """Built, and nothing of the store's own runs from it any more."""
    async with bounded():
        environment = await store.ensure(manifest)
        await until(lambda: (environment.folder / "waifu-llm-compiled").exists(), "it is compiled")
        return environment
