"""All personalities below the configured roots: listed, found by a client's path, and their logos. All of it blocks."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from waifu_lollms.personalities import cache, images
from waifu_lollms.personalities.errors import PersonalityError
from waifu_lollms.personalities.files import Confinement
from waifu_lollms.personalities.loader import DEFAULT_LANGUAGE, BrokenFile, read_personality
from waifu_lollms.personalities.model import BrokenPersonality, Personality, Survey
from waifu_lollms.personalities.places import PlaceError, check_text, component, key_parts
from waifu_lollms.personalities.scan import CONFIG, Place, Scan
from waifu_lollms.personalities.seeding import seed_personalities

__all__ = ["Library", "Logo", "PersonalityError", "seed_personalities"]

MOST_CONFIG_BYTES: Final = 256 * 1024
_ASSETS: Final = "assets"
_SCRIPTS: Final = "scripts"
_WATCHED: Final = (".", CONFIG, _ASSETS, _SCRIPTS)


@dataclass(frozen=True, slots=True)
class Logo:
    """An image file below the roots whose name and first bytes agree on `content_type`."""

    file: Path
    content_type: str


@dataclass(frozen=True, slots=True)
class _Listed:
    place: Place
    remembered: cache.Remembered


class Library:
    """The personalities below `roots`; of two with the same key that of the earlier root counts.

    What clients send is looked up among the folders that were found, never joined into a path. With a `cache_file`
    the folders that did not change are not read again after a restart either. Every method blocks on files and may be
    called from several threads at once.
    """

    def __init__(self, roots: Sequence[Path], cache_file: Path | None) -> None:
        self._roots = tuple(Path(os.path.abspath(root)) for root in roots)  # noqa: PTH100 - `..` is the user's own
        self._confinement = Confinement(self._roots)
        self._cache_file = cache_file
        self._lock = threading.Lock()
        self._remembered: dict[str, cache.Remembered] | None = None
        self._listed: dict[tuple[Path, str], _Listed] = {}
        self._by_key: dict[str, _Listed] = {}
        self._errors: dict[str, str] = {}

    def survey(self) -> Survey:
        """All personalities as they are on the disk now; only what changed is read. Raises nothing."""
        with self._lock:
            return self._survey()

    def find(self, path: str) -> Personality:
        """The personality that `path` names: `language/category/name`, `category/name`, or a folder's absolute path.

        Raises: PersonalityError.
        """
        with self._lock:
            found = self._lookup(path)
            if found is None or not _is_current(found):
                self._survey()
                found = self._lookup(path)
            if found is None:
                raise PersonalityError(self._why_not(path))
            assert found.remembered.personality is not None
            return found.remembered.personality

    def logo(self, key: str) -> Logo | None:
        """The logo of the personality with this key; None where there is no such one, or it has none."""
        with self._lock:
            if self._remembered is None:
                self._survey()
            listed = self._by_key.get(component(key))
        return None if listed is None else self._logo_in(listed.place.path)

    def _survey(self) -> Survey:
        known = self._remembered
        if known is None:
            known = cache.load(self._cache_file) if self._cache_file is not None else {}
        seen: dict[str, cache.Remembered] = {}
        listed: dict[tuple[Path, str], _Listed] = {}
        errors: list[BrokenPersonality] = []
        for root in self._roots:
            scan = Scan(root, self._confinement)
            scan.run()
            errors += scan.errors
            for place in scan.places:
                name = f"{root}\0{place.path.relative_to(root)}"
                remembered = known.get(name)
                if remembered is None or not _is_current(_Listed(place, remembered)):
                    remembered = self._read(place)
                seen[name] = remembered
                if remembered.personality is None:
                    errors.append(BrokenPersonality(place.where, remembered.message))
                elif (root, place.where) in listed:
                    errors.append(
                        BrokenPersonality(place.where, "Another folder has the same name in other characters")
                    )
                else:
                    listed[root, place.where] = _Listed(place, remembered)
        if self._cache_file is not None and seen != known:
            cache.save(self._cache_file, seen)
        self._remembered, self._listed = seen, listed
        self._errors = {error.path: error.message for error in reversed(errors)}
        return self._arranged(errors)

    def _arranged(self, errors: list[BrokenPersonality]) -> Survey:
        self._by_key = {}
        for entry in self._listed.values():
            assert entry.remembered.personality is not None
            self._by_key.setdefault(entry.remembered.personality.key, entry)
        languages: dict[str, dict[str, list[Personality]]] = {}
        for key in sorted(self._by_key, key=lambda key: key.split("/")):
            personality = self._by_key[key].remembered.personality
            assert personality is not None
            languages.setdefault(personality.language, {}).setdefault(personality.category, []).append(personality)
        return Survey(languages, sorted(errors, key=lambda error: error.path))

    def _read(self, place: Place) -> cache.Remembered:
        folder = place.path
        candidates = tuple(f"{_ASSETS}/{name}" for name in images.LOGO_NAMES)
        watched = (*_WATCHED, *(name for name in candidates if os.path.lexists(folder / name)))
        read_ns = cache.now_ns()
        stamps = cache.stamps_of(folder, watched)
        personality, message = None, ""
        try:
            data = self._confinement.read(folder / CONFIG, MOST_CONFIG_BYTES)
            personality = msgspec.structs.replace(
                read_personality(data, language=place.language, category=place.category, folder=place.folder),
                has_scripts=self._confinement.has_folder(folder / _SCRIPTS),
                has_logo=self._logo_in(folder) is not None,
            )
        except BrokenFile as error:
            message = str(error)
        except OSError as error:
            message = f"{CONFIG} cannot be read: {error.strerror or error}"
        # Without stamps it is never current: a change within the same tick would be missed.
        settled = cache.is_settled(stamps, read_ns)
        return cache.Remembered(watched, stamps if settled else (), personality, message)

    def _logo_in(self, folder: Path) -> Logo | None:
        for name in images.LOGO_NAMES:
            file = folder / _ASSETS / name
            if not os.path.lexists(file):
                continue
            try:
                head = self._confinement.read(file, images.MOST_LOGO_BYTES, only=images.MAGIC_BYTES)
            except OSError:
                continue
            content_type = images.content_type(name, head)
            inside = self._confinement.resolved(file)
            if content_type is not None and inside is not None:
                return Logo(inside, content_type)
        return None

    def _lookup(self, path: str) -> _Listed | None:
        """Among what the last survey saw."""
        try:
            check_text(path)
            if Path(path).is_absolute():
                return self._at(path)
            parts = key_parts(path)
        except PlaceError as error:
            raise PersonalityError(str(error)) from error
        if len(parts) == 3:
            return self._by_key.get("/".join(parts))
        where = "/".join(parts)
        found = next((self._listed[root, where] for root in self._roots if (root, where) in self._listed), None)
        if found is not None:
            return self._winner(found)
        languages = sorted(
            {key.split("/")[0] for key in self._by_key}, key=lambda name: (name != DEFAULT_LANGUAGE, name)
        )
        return next((self._by_key[key] for name in languages if (key := f"{name}/{where}") in self._by_key), None)

    def _at(self, path: str) -> _Listed | None:
        """The listed folder that an absolute path is, by its text or by what its links resolve to."""
        for root in self._roots:
            if Path(path).is_relative_to(root):
                where = component(Path(path).relative_to(root).as_posix())
                if (root, where) in self._listed:
                    return self._winner(self._listed[root, where])
        # Another drive may be another machine, which merely looking there would log in to.
        drives = {root.drive.lower() for root in self._roots}
        inside = self._confinement.resolved(Path(path)) if Path(path).drive.lower() in drives else None
        if inside is None:
            return None
        same = (entry for entry in self._listed.values() if self._confinement.resolved(entry.place.path) == inside)
        return next((self._winner(entry) for entry in same), None)

    def _winner(self, entry: _Listed) -> _Listed:
        """The key decides which of two roots counts, however the folder was named."""
        assert entry.remembered.personality is not None
        return self._by_key[entry.remembered.personality.key]

    def _why_not(self, path: str) -> str:
        message = self._errors.get(component(path.removesuffix("/")))
        if message is not None:
            return f"This personality is broken. {message}"
        return "There is no such personality below the folders of personalities"


def _is_current(listed: _Listed) -> bool:
    kept = listed.remembered
    return bool(kept.stamps) and kept.stamps == cache.stamps_of(listed.place.path, kept.watched)
