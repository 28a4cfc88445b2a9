"""Finds the workers and gateways there are, and reads what their pyproject.toml declares."""

import re
import threading
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from waifu_llm.errors import ModuleError, UnknownProvider, quoted

NAME_PATTERN: Final = r"^[a-z][a-z0-9_]{0,31}$"
_NAME: Final = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z")

OptionValue: TypeAlias = str | int | float | bool | list[str] | None
OptionType: TypeAlias = Literal["string", "url", "host", "integer", "number", "boolean", "list", "path", "paths"]


class BrokenManifest(ModuleError):
    """A worker's pyproject.toml does not say what it must."""


class KeyNeed(StrEnum):
    """Whether a provider wants an API key."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    NONE = "none"


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The provider's API key: needed or not, and the environment variables it may come from, in order."""

    need: KeyNeed = KeyNeed.NONE
    env: tuple[str, ...] = ()


class Option(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One load option. `identity`: another value means another worker process.

    `path` and `paths`: files or folders, in a relative form from where they were written down.
    `address`: it decides where the provider's key goes, as every option of the type url does.
    """

    type: OptionType
    help: str
    default: OptionValue = None
    env: str | None = None
    identity: bool = False
    choices: tuple[str, ...] = ()
    address: bool = False


class Declaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[tool.waifu-llm]`."""

    kind: Literal["worker", "gateway"]
    title: str
    description: str
    homepage: str
    category: Literal["api", "local"]
    package: Annotated[str, msgspec.Meta(pattern=r"^waifu_[a-z0-9_]+$")]
    default_model: str | None = None
    download_mb: float = 0
    abilities: tuple[Literal["chat", "text", "stop_ids", "preload", "pull"], ...] = ()
    key: Key = Key()
    env: tuple[str, ...] = ()
    unhashed: tuple[str, ...] = ()
    options: dict[str, Option] = {}


class Manifest(msgspec.Struct, frozen=True):
    """One worker or gateway: where it lies and what it declares."""

    name: str
    folder: Path
    version: str
    author: str
    declared: Declaration

    @property
    def lock(self) -> Path:
        """All its packages, with hashes."""
        return self.folder / "requirements.lock"

    @property
    def package_folder(self) -> Path:
        """The import package that holds its `Provider`."""
        return self.folder / self.declared.package


class _Author(msgspec.Struct):
    name: str = ""


class _Project(msgspec.Struct):
    version: str
    authors: list[_Author] = []


def read_manifest(folder: Path) -> Manifest:
    """The manifest in `folder/pyproject.toml`. Raises: BrokenManifest."""
    import tomllib  # late: the module listens before it reads any manifest

    file = folder / "pyproject.toml"
    try:
        table = tomllib.loads(file.read_text("utf-8"))
        project = msgspec.convert(table["project"], _Project)
        declared = msgspec.convert(table["tool"]["waifu-llm"], Declaration)
    except KeyError as error:
        raise BrokenManifest(f"{file} has no table {error}") from error
    except (OSError, ValueError) as error:
        raise BrokenManifest(f"{file}: {error}") from error
    author = ", ".join(author.name for author in project.authors)
    return Manifest(folder.name, folder, project.version, author, declared)


def bundled_roots() -> tuple[Path, ...]:
    """The folders of workers and gateways: packed into the wheel, else beside `core/` in a checkout."""
    package = Path(__file__).resolve().parent
    bundle = package / "_bundle"
    base = bundle if bundle.is_dir() else package.parent.parent
    return base / "workers", base / "gateways"


class Catalog:
    """The workers and gateways there are. A broken manifest is kept as its error, never an exception at start.

    Those of `unread` are folders whose manifest is read when somebody asks for it: the module listens before. From any
    thread; two that ask at once read the same.
    """

    def __init__(
        self,
        manifests: Mapping[str, Manifest],
        broken: Mapping[str, BrokenManifest],
        unread: Mapping[str, Path] | None = None,
    ) -> None:
        self._manifests = dict(manifests)
        self._broken = dict(broken)
        self._unread = dict(unread or {})
        # msgspec learns a type at its first use, and two threads that have it do so at once end the process (0.22).
        self._one_reads = threading.Lock()

    @classmethod
    def read(cls, roots: tuple[Path, ...] | None = None) -> "Catalog":
        """Look through the roots; a folder without a pyproject.toml, or with a name no provider may have, is none."""
        folders = [
            folder
            for root in (roots if roots is not None else bundled_roots())
            for folder in (root.iterdir() if root.is_dir() else ())
            if _NAME.match(folder.name) and (folder / "pyproject.toml").is_file()
        ]
        return cls({}, {}, {folder.name: folder for folder in folders})

    def read_all(self) -> None:
        """Read what nobody has asked for yet; some milliseconds."""
        for name in tuple(self._unread):
            self._look_at(name)

    def _look_at(self, name: str) -> None:
        if name not in self._unread:
            return
        with self._one_reads:
            folder = self._unread.get(name)
            if folder is None:
                return
            try:
                self._manifests[name] = read_manifest(folder)
            except BrokenManifest as error:
                self._broken[name] = error
            # Last: another thread finds it in one place or the other.
            del self._unread[name]

    @property
    def broken(self) -> Mapping[str, BrokenManifest]:
        """Why those cannot be used whose manifest is broken."""
        self.read_all()
        return self._broken

    def is_broken(self, name: str) -> bool:
        """Whether there is one of that name with a broken manifest."""
        self._look_at(name)
        return name in self._broken

    def has(self, kind: str, name: str) -> bool:
        """Whether there is a worker, or gateway, of that name."""
        self._look_at(name)
        return name in self._manifests and self._manifests[name].declared.kind == kind

    def all(self) -> list[Manifest]:
        """Every worker and gateway, sorted by name."""
        self.read_all()
        return [self._manifests[name] for name in sorted(self._manifests)]

    def workers(self) -> list[Manifest]:
        """Every worker, sorted by name."""
        return [m for m in self.all() if m.declared.kind == "worker"]

    def gateways(self) -> list[Manifest]:
        """Every gateway, sorted by name."""
        return [m for m in self.all() if m.declared.kind == "gateway"]

    def find(self, name: str) -> Manifest:
        """The worker or gateway of that name. Raises: UnknownProvider, naming those there are; BrokenManifest."""
        if self.is_broken(name):
            raise self._broken[name]
        if name not in self._manifests:
            there = ", ".join(manifest.name for manifest in self.all())
            raise UnknownProvider(f"there is no {quoted(name)}; there are: {there or 'none'}")
        return self._manifests[name]

    def worker(self, name: str) -> Manifest:
        """The worker of that name. Raises: UnknownProvider, naming those there are; BrokenManifest."""
        if not self.has("worker", name) and not self.is_broken(name):
            there = ", ".join(manifest.name for manifest in self.workers())
            raise UnknownProvider(f"there is no provider {quoted(name)}; there are: {there or 'none'}")
        return self.find(name)
