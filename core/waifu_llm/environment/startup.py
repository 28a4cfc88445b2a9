"""What would run at every start of an environment's Python, whether anybody imports it or not. All of it blocks."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from waifu_llm.errors import InstallFailed

# Every folder in which Python's `site` looks for files that run; on Windows the environment's own folder is one too.
_SITES: Final = ("lib*/python*/*-packages", "local/lib*/python*/*-packages", "Lib/*-packages")
_PROGRAMS: Final = ("bin", "Scripts")
# `.start` is what Python 3.15 has in place of a .pth with an import line (PEP 829).
_SUFFIXES: Final = (".pth", ".start")
_MODULES: Final = frozenset({"sitecustomize", "usercustomize"})
# Beside its program Python looks for where its own library is.
_BESIDE: Final = frozenset({"pyvenv.cfg", "pybuilddir.txt"})
# setuptools', by content. It imports a package, which must then be setuptools' as well.
_SETUPTOOLS_PTH: Final = "2638ce9e2500e572a5e0de7faed6661eb569d1b696fcba07b0dd223da5f5d224"
_SETUPTOOLS_FILES: Final = ("distutils-precedence.pth", "_distutils_hack/__init__.py")


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file of an environment that nothing was installed in yet, with what tells whether it changed."""
    files = (Path(base) / name for base, _, names in os.walk(folder) for name in names)
    return {file.relative_to(folder).as_posix(): _content(file) for file in files}


def refuse_startup_code(folder: Path, fresh: Mapping[str, str]) -> None:
    """Raises: InstallFailed where packages brought anything that Python runs or obeys unasked; OSError.

    `fresh` is the environment's fingerprint from before they came.
    """
    for path, content in fresh.items():
        if _content(folder / path) != content:
            raise InstallFailed(f"a package changed {path[-80:]}, which belongs to Python; nothing was installed")
    for file in _that_run(folder):
        path = file.relative_to(folder).as_posix()
        if path not in fresh and not _is_of_setuptools(file):
            raise InstallFailed(
                f"a package brought {path[-80:]}, which would run at every start of Python; nothing was installed"
            )


def _that_run(folder: Path) -> Iterator[Path]:
    sites = [folder, *(site for pattern in _SITES for site in folder.glob(pattern))]
    for entry in (entry for site in sites for entry in sorted(site.iterdir())):
        # A module is one as source, as byte code, as an extension and as a folder; on some systems in any case.
        name = entry.name.lower()
        if name.endswith(_SUFFIXES) or name.partition(".")[0] in _MODULES:
            yield entry
    for entry in (entry for name in _PROGRAMS for entry in sorted((folder / name).glob("*"))):
        if entry.name.lower() in _BESIDE or entry.suffix.lower() == "._pth":
            yield entry


def _is_of_setuptools(file: Path) -> bool:
    if file.name != _SETUPTOOLS_FILES[0] or _content(file) != _SETUPTOOLS_PTH:
        return False
    records = [record.read_text("utf-8") for record in file.parent.glob("setuptools-*.dist-info/RECORD")]
    listed = {line.partition(",")[0] for record in records for line in record.splitlines()}
    return listed.issuperset(_SETUPTOOLS_FILES)


def _content(file: Path) -> str:
    """Where a link leads, else the digest of what a file holds; nothing where it is gone."""
    try:
        return f"-> {file.readlink()}" if file.is_symlink() else hashlib.sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""
