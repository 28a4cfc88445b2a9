"""Whether an environment holds, byte for byte, what its packages' RECORDs say, and nothing that runs unasked."""

import base64
import csv
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from waifu_llm.environment.startup import refuse_startup_code
from waifu_llm.environment.thread import Halt
from waifu_llm.errors import InstallFailed

_INFO: Final = ".dist-info"
_PIECE: Final = 1024 * 1024


def verify(folder: Path, fresh: Mapping[str, str], halt: Halt) -> tuple[str, ...]:
    """Check every file of the environment that is being built in `folder`, and put it on the disk; blocks.

    `fresh` is its fingerprint from before anything was installed. Returns its packages, as `name-version`.
    Raises: InstallFailed, naming the first file that is wrong; Halted; OSError.
    """
    refuse_startup_code(folder, fresh)
    site = site_packages(folder)
    packages = tuple(sorted(record.parent.name.removesuffix(_INFO) for record in site.glob(f"*{_INFO}/RECORD")))
    for package in packages:
        for path, digest in _recorded(site, package):
            if not _is_intact(site / path, digest, halt):
                raise InstallFailed(
                    f"{path[-80:]} of {package} is missing or not as its package says; "
                    f"run: uv cache clean {package.partition('-')[0]}, then load it again"
                )
    return packages


def missing_file(folder: Path, packages: Iterable[str]) -> str | None:
    """A file of these packages that is gone from a finished environment; None where all are there.

    Blocks: some milliseconds per thousand files. Raises: OSError.
    """
    site = site_packages(folder)
    for package in packages:
        try:
            for path, _ in _recorded(site, package):
                # Every load waits for this, and a `Path` for each file is two thirds of it.
                if not os.path.lexists(os.path.join(site, path)):  # noqa: PTH118
                    return path
        except FileNotFoundError:
            return f"{package}{_INFO}/RECORD"
    return None


def site_packages(folder: Path) -> Path:
    """Where an environment keeps its packages."""
    if sys.platform == "win32":
        return folder / "Lib" / "site-packages"
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def interpreter_identity(python: Path) -> tuple[int, int]:
    """Size and time of the binary behind a python: the same ones mean that nobody changed it. Raises: OSError."""
    info = python.stat()
    return info.st_size, info.st_mtime_ns


def _recorded(site: Path, package: str) -> Iterator[tuple[str, str]]:
    """Path and digest of each file of a package."""
    with (site / f"{package}{_INFO}" / "RECORD").open(newline="", encoding="utf-8") as lines:
        for path, digest, _ in csv.reader(lines):
            yield path, digest


def _is_intact(file: Path, wanted: str, halt: Halt) -> bool:
    """`wanted` is a RECORD's digest, or empty: the RECORD itself and what an installer makes have none."""
    kind, _, encoded = wanted.partition("=")
    try:
        with file.open("rb") as stream:
            digest = hashlib.new(kind) if kind else None
            halt.look()
            while digest is not None and (piece := stream.read(_PIECE)):
                digest.update(piece)
                halt.look()
            if sys.platform != "win32":
                # The stamp must never be on the disk before what it vouches for.
                os.fsync(stream.fileno())
    except FileNotFoundError:
        return False
    return digest is None or base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode() == encoded
