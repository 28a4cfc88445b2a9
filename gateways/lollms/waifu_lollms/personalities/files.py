"""Opens files below the roots and nowhere else: confined by resolved paths, regular, and of a bounded size."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# Without a wait for a writer where a pipe has taken a file's place, and without a link that was planted meanwhile.
_FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")
)


class Confinement:
    """Knows the folders below which everything must lie."""

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots = tuple(Path(os.path.realpath(root)) for root in roots)

    def resolved(self, path: Path) -> Path | None:
        """`path` without links, None where it lies outside all roots, is in a circle, or cannot be said.

        Only links are read on the way; nothing is opened.
        """
        try:
            found = Path(os.path.realpath(path, strict=True))
        except (OSError, ValueError):
            return None
        return found if any(found.is_relative_to(root) for root in self._roots) else None

    def has_folder(self, path: Path) -> bool:
        """Whether it is a folder below the roots."""
        inside = self.resolved(path)
        return inside is not None and inside.is_dir()

    def read(self, path: Path, most: int, *, only: int | None = None) -> bytes:
        """The content of a regular file below the roots; with `only` no more than its first bytes.

        Raises: OSError, its text a sentence; also where the file is larger than `most` bytes.
        """
        inside = self.resolved(path)
        if inside is None:
            raise PermissionError("it is missing, or leads out of the personality folders")
        if not stat.S_ISREG(inside.stat().st_mode):
            raise IsADirectoryError("it is no regular file")
        descriptor = os.open(inside, _FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            # Once more, of what was really opened: the name may stand for something else by now.
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                raise IsADirectoryError("it is no regular file")
            data = file.read(most + 1 if only is None else only)
            if max(info.st_size, len(data)) > most:
                raise OSError(f"it is larger than {most // 1024:,} KiB")
            return data
