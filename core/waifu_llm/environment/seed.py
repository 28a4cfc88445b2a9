"""Our own code as workers run it: copied to `<home>/seed/<digest>/`, never changed there."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from waifu_llm.catalog import Manifest
from waifu_llm.environment.folders import put_aside, remove_tree, temporary

_SOURCES: Final = Path(__file__).resolve().parents[2]
_LENGTH: Final = 16

# The guard must come before any other import: whatever an import prints would land on the wire.
_MAIN: Final = """\
from waifu_worker import stdio

pipes = stdio.claim()

from waifu_worker import late  # noqa: E402

late.postpone(late.IN_A_WORKER)

from {module} import run  # noqa: E402

run({arguments})
"""


class Seed:
    """What one worker or gateway runs, read once; later changes of the sources are not seen."""

    def __init__(self, manifest: Manifest, sources: Path = _SOURCES) -> None:
        """Raises: OSError where a source cannot be read."""
        packages = [sources / "waifu_worker", manifest.package_folder]
        if manifest.declared.kind == "gateway":
            packages.insert(1, sources / "waifu_client")
        self._files = {f"{package.name}/{path}": data for package in packages for path, data in _files(package)}
        self._files["__main__.py"] = _main(manifest).encode()
        digest = hashlib.sha256()
        for path, data in sorted(self._files.items()):
            digest.update(f"{path}\0{len(data)}\0".encode() + data)
        self.digest = digest.hexdigest()[:_LENGTH]

    def place(self, seeds: Path) -> Path:
        """The folder in `seeds` that holds it, written if it is not there whole; blocks. Raises: OSError."""
        folder = seeds / self.digest
        if self._is_whole(folder):
            return folder
        seeds.mkdir(parents=True, exist_ok=True, mode=0o700)
        building = temporary(seeds)
        try:
            for path, data in self._files.items():
                file = building / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
            self._swap_in(building, folder)
        finally:
            remove_tree(building)
        return folder

    def _swap_in(self, building: Path, folder: Path) -> None:
        try:
            if os.path.lexists(folder) and not self._is_whole(folder):
                remove_tree(put_aside(folder))
            building.rename(folder)
        except OSError:
            # Another module was first, with the same content: the name is its digest.
            if not self._is_whole(folder):
                raise

    def _is_whole(self, folder: Path) -> bool:
        """Nothing is synced to the disk here, so a power cut may leave files without their content."""
        try:
            return all((folder / path).read_bytes() == data for path, data in self._files.items())
        except OSError:
            return False


def _files(package: Path) -> Iterator[tuple[str, bytes]]:
    # What is not there at all would otherwise pass as a package without files.
    (package / "__init__.py").stat()
    for base, folders, names in os.walk(package):
        if "__pycache__" in folders:
            folders.remove("__pycache__")
        for file in (Path(base, name) for name in names if not name.endswith(".pyc")):
            if file.is_file():
                yield file.relative_to(package).as_posix(), file.read_bytes()


def _main(manifest: Manifest) -> str:
    declared = manifest.declared
    if declared.kind == "gateway":
        return _MAIN.format(module=declared.package, arguments=f"pipes, name={manifest.name!r}")
    arguments = f"pipes, name={manifest.name!r}, package={declared.package!r}, abilities={declared.abilities!r}"
    return _MAIN.format(module="waifu_worker.runtime", arguments=arguments)


def seed_digests(seeds: Path) -> list[str]:
    """The seeds there are."""
    return sorted(entry.name for entry in os.scandir(seeds) if len(entry.name) == _LENGTH) if seeds.is_dir() else []
