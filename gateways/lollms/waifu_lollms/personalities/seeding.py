"""Places the original set of personalities in the user's data folder: once each, whole, and never over anything."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

import msgspec

ORIGINAL_SET: Final = Path(__file__).resolve().parents[1] / "personality_set"
_RECORD: Final = ".seeded.json"


def seed_personalities(root: Path, original: Path = ORIGINAL_SET) -> None:
    """Copy into `root` what of the original set was never placed there; made where it is missing. Blocks.

    What was placed once belongs to the user: changed, it stays changed; deleted, it stays deleted. A folder that is
    there already is left as it is. Killed midway it goes on the next time, and no half folder is ever seen.

    Raises: OSError where the folder cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    record = root / _RECORD
    placed = _placed(record)
    new = sorted(_keys(original) - placed)
    for key in new:
        if not os.path.lexists(root / key):
            _place(original / key, root, key)
    if new:
        _replace(record, msgspec.json.format(msgspec.json.encode(sorted(placed.union(new))), indent=1))


def _keys(original: Path) -> set[str]:
    return {file.parent.relative_to(original).as_posix() for file in original.glob("*/*/*/config.yaml")}


def _placed(record: Path) -> set[str]:
    try:
        return msgspec.json.decode(record.read_bytes(), type=set[str])
    except (FileNotFoundError, ValueError):
        return set()


def _place(source: Path, root: Path, key: str) -> None:
    with tempfile.TemporaryDirectory(dir=root, prefix=".seeding-", ignore_cleanup_errors=True) as folder:
        # Contents only: what a package manager made read-only is the user's to change here.
        whole = shutil.copytree(source, Path(folder) / "whole", copy_function=shutil.copyfile)
        for made in (whole, *(path for path in whole.rglob("*") if path.is_dir())):
            made.chmod(0o755)
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        try:
            whole.rename(root / key)
        except OSError:
            # Another gateway on the same folder was first.
            if not (root / key).is_dir():
                raise


def _replace(file: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".seeding-")
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
        Path(name).replace(file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
