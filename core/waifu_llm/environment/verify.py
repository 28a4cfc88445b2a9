"""Whether an environment holds, byte for byte, what its packages' RECORDs say, and nothing that runs unasked."""

import base64
import csv
import hashlib
import os
import sys
from pathlib import Path
from typing import Final

from waifu_llm.errors import InstallFailed

# A .pth file with an import line runs at every start of the interpreter, whether anybody imports its package or not.
# These two come from uv's own virtualenv support and from setuptools.
KNOWN_PTH: Final = frozenset({"_virtualenv.pth", "distutils-precedence.pth"})
_PIECE: Final = 1024 * 1024


def verify(folder: Path) -> None:
    """Check every file of the environment that is being built in `folder`, and put it on the disk; blocks.

    Raises: InstallFailed, naming the first file that is wrong; OSError.
    """
    site = site_packages(folder)
    for file in sorted(site.glob("*.pth")):
        if file.name not in KNOWN_PTH:
            raise InstallFailed(
                f"a package brought {file.name[:80]}, which would run at every start of Python; nothing was installed"
            )
    for record in sorted(site.glob("*.dist-info/RECORD")):
        _verify_record(site, record)


def site_packages(folder: Path) -> Path:
    """Where an environment keeps its packages."""
    if sys.platform == "win32":
        return folder / "Lib" / "site-packages"
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _verify_record(site: Path, record: Path) -> None:
    package = record.parent.name.removesuffix(".dist-info")
    with record.open(newline="", encoding="utf-8") as lines:
        for path, digest, _ in csv.reader(lines):
            if not _is_intact(site / path, digest):
                raise InstallFailed(
                    f"{path[-80:]} of {package} is missing or not as its package says; "
                    f"run: uv cache clean {package.partition('-')[0]}, then load it again"
                )


def _is_intact(file: Path, wanted: str) -> bool:
    """`wanted` is a RECORD's digest, or empty: the RECORD itself and what an installer makes have none."""
    kind, _, encoded = wanted.partition("=")
    try:
        with file.open("rb") as stream:
            digest = hashlib.new(kind) if kind else None
            while digest is not None and (piece := stream.read(_PIECE)):
                digest.update(piece)
            if sys.platform != "win32":
                # The stamp must never be on the disk before what it vouches for.
                os.fsync(stream.fileno())
    except FileNotFoundError:
        return False
    return digest is None or base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode() == encoded
