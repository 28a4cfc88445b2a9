"""Finds the workers and gateways there are, and reads what their pyproject.toml declares."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from waifu_llm.errors import ModuleError, UnknownProvider

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


@dataclass(frozen=True, slots=True)
class Manifest:
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
    """The workers and gateways there are. A broken manifest is kept as its error, never an exception at start."""

    def __init__(self, manifests: Mapping[str, Manifest], broken: Mapping[str, BrokenManifest]) -> None:
        self._manifests = dict(sorted(manifests.items()))
        self.broken = dict(broken)

    @classmethod
    def read(cls, roots: tuple[Path, ...] | None = None) -> "Catalog":
        """Look through the roots; a folder without a pyproject.toml, or with a name no provider may have, is none."""
        manifests: dict[str, Manifest] = {}
        broken: dict[str, BrokenManifest] = {}
        for root in roots if roots is not None else bundled_roots():
            for folder in sorted(root.iterdir()) if root.is_dir() else ():
                if not _NAME.match(folder.name) or not (folder / "pyproject.toml").is_file():
                    continue
                try:
                    manifests[folder.name] = read_manifest(folder)
                except BrokenManifest as error:
                    broken[folder.name] = error
        return cls(manifests, broken)

    def all(self) -> list[Manifest]:
        """Every worker and gateway, sorted by name."""
        return list(self._manifests.values())

    def workers(self) -> list[Manifest]:
        """Every worker, sorted by name."""
        return [m for m in self._manifests.values() if m.declared.kind == "worker"]

    def gateways(self) -> list[Manifest]:
        """Every gateway, sorted by name."""
        return [m for m in self._manifests.values() if m.declared.kind == "gateway"]

    def find(self, name: str) -> Manifest:
        """The worker or gateway of that name. Raises: UnknownProvider, naming those there are; BrokenManifest."""
        if name in self.broken:
            raise self.broken[name]
        if name not in self._manifests:
            raise UnknownProvider(f"there is no {_quoted(name)}; there are: {', '.join(self._manifests) or 'none'}")
        return self._manifests[name]

    def worker(self, name: str) -> Manifest:
        """The worker of that name. Raises: UnknownProvider, naming those there are; BrokenManifest."""
        workers = [m.name for m in self.workers()]
        if name not in workers and name not in self.broken:
            raise UnknownProvider(f"there is no provider {_quoted(name)}; there are: {', '.join(workers) or 'none'}")
        return self.find(name)


def _quoted(name: str) -> str:
    """What a client called a provider, short enough for a sentence, however its characters must be written."""
    return repr(name[:64])[:80]
