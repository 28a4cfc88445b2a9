"""Names of places below a root. Pure: what may be a name at all, and what a client's text can mean."""

import unicodedata
from typing import Final

LONGEST_NAME: Final = 255
LONGEST_PATH: Final = 4096
LEVELS: Final = (2, 3)
_CONTROL: Final = ("Cc", "Cs")


class PlaceError(ValueError):
    """The text can name no personality, whatever there is; its text is a sentence."""


def component(name: str) -> str:
    """A folder's name as keys spell it: normalised to NFC, since file systems hand out either form."""
    return unicodedata.normalize("NFC", name)


def refusal(name: str) -> str | None:
    """Why a folder of this name is no language, category or personality; None where it may be one."""
    if name in ("", ".", ".."):
        return "it is no name"
    if len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
        return "its name is too long"
    separated = "/" in name or "\\" in name
    if separated or (not name.isprintable() and any(unicodedata.category(char) in _CONTROL for char in name)):
        return "its name holds a separator, a control character or bytes that are not UTF-8"
    return None


def is_hidden(name: str) -> bool:
    """Whether a folder is none of ours to list: version control, caches, temporary ones."""
    return name.startswith((".", "__"))


def key_parts(path: str) -> tuple[str, ...]:
    """The two or three names of `category/name` or `language/category/name`, normalised.

    Windows forms are nothing but names here: they find no folder, since paths are looked up and never opened.

    Raises: PlaceError.
    """
    check_text(path)
    parts = tuple(component(part) for part in path.removesuffix("/").split("/"))
    if len(parts) not in LEVELS or any(refusal(part) for part in parts):
        raise PlaceError("The path must be language/category/name or category/name, below a folder of personalities")
    return parts


def check_text(path: str) -> None:
    """Raises: PlaceError for a text that no file system takes as a path."""
    if "\0" in path or len(path) > LONGEST_PATH:
        raise PlaceError("This is no path of a personality")
