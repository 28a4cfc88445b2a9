"""Finds the folders of personalities below a root, in both layouts. Lists folders and opens no file."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from waifu_lollms.personalities.files import Confinement
from waifu_lollms.personalities.model import BrokenPersonality
from waifu_lollms.personalities.places import component, is_hidden, refusal

CONFIG: Final = "config.yaml"
_OUTSIDE: Final = "It leads out of the personality folders; gateway.lollms.personality_roots can name where it leads to"
_MISSING: Final = "config.yaml is missing"
# What lies in a personality's folder beside its file: a folder with these is one, even when the file is gone.
_OWN: Final = frozenset({"assets", "scripts"})


@dataclass(frozen=True, slots=True)
class Place:
    """A folder with a `config.yaml`; `language` is None in the layout without it."""

    root: Path
    path: Path
    language: str | None
    category: str
    folder: str

    @property
    def where(self) -> str:
        """The folder as seen from its root, normalised as keys are."""
        parts = (self.category, self.folder) if self.language is None else (self.language, self.category, self.folder)
        return "/".join(component(part) for part in parts)


@dataclass
class Scan:
    """What lies below one root: `places`, and `errors` for what is no personality but looks as if it should be."""

    root: Path
    confinement: Confinement
    places: list[Place] = field(default_factory=list)
    errors: list[BrokenPersonality] = field(default_factory=list)

    def run(self) -> None:
        """Look through the root; blocks. Raises nothing: what cannot be listed is an error of the list."""
        for outer in self._folders(self.root, ()):
            if _has_config(self.root / outer):
                self._broken((outer,), "A personality must lie in language/category/name or category/name")
            for inner in self._folders(self.root / outer, (outer,)):
                if _has_config(self.root / outer / inner):
                    self.places.append(Place(self.root, self.root / outer / inner, None, outer, inner))
                else:
                    self._category(outer, inner)

    def _category(self, outer: str, inner: str) -> None:
        folder = self.root / outer / inner
        names = list(self._folders(folder, (outer, inner)))
        complete = [name for name in names if _has_config(folder / name)]
        if not complete and _OWN.intersection(names):
            self._broken((outer, inner), _MISSING)
            return
        self.places += [Place(self.root, folder / name, outer, inner, name) for name in complete]
        for name in sorted(set(names).difference(complete)):
            self._broken((outer, inner, name), _MISSING)

    def _folders(self, folder: Path, above: tuple[str, ...]) -> Iterator[str]:
        """The names of the folders in `folder` that may be looked into, sorted."""
        try:
            with os.scandir(folder) as listed:
                shown = [entry for entry in listed if not is_hidden(entry.name)]
                entries = sorted(filter(_is_folder, shown), key=lambda entry: entry.name)
        except OSError as error:
            self._broken(above or (self.root.name,), f"The folder cannot be read ({error.strerror})")
            return
        for entry in entries:
            reason = refusal(entry.name)
            if reason is not None:
                self._broken((*above, entry.name), f"The folder is left out: {reason}")
            elif _is_link(entry) and self.confinement.resolved(Path(entry.path)) is None:
                self._broken((*above, entry.name), _OUTSIDE)
            else:
                yield entry.name

    def _broken(self, parts: tuple[str, ...], message: str) -> None:
        where = "/".join(parts).encode("utf-8", "replace").decode("utf-8")
        self.errors.append(BrokenPersonality(where, message))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself, or to where we may not look.
        return False


def _is_link(entry: os.DirEntry[str]) -> bool:
    # Windows has a second kind of them, which Python tells from 3.12 on.
    return entry.is_symlink() or bool(getattr(entry, "is_junction", bool)())


def _has_config(folder: Path) -> bool:
    return os.path.lexists(folder / CONFIG)
