"""Keys never reach a log or a message: secrets are known by value and taken out of every text. Pure.

What clients give is known only while somebody may still speak of it, and never hides ordinary words: a "key" such as
`ollama` or `the ` is taken out of what comes from its own worker (`including`), not out of everybody's messages.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeGuard
from urllib.parse import unquote

from waifu_worker.scrub import MASK, SHORTEST, ends, forms, longest_first, without_shapes

__all__ = ["MASK", "Redactor", "secrets_of"]

RECENT: Final = 64
_TELLING: Final = 16
_SHORTEST_FOUND: Final = 8
_NAMES: Final = re.compile(r"(?i)(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD)$")
_USER: Final = re.compile(r"://(?:[^/\s:]*:)?([^/\s]+)@")
# One with a slash that was not escaped: the slash stands before the first @, or that @ would end one without a slash,
# and the match ends at the @ before the host. It holds no second "://" and no quote, behind which another address or
# text may come; so no character is looked at for two addresses, however many there are. What follows an ssh host's
# colon is a path. Unknown stays one that begins with the slash or with digits up to it (a port, and an @ in the path),
# holds a quote, or an @ before its first slash; of one with an @ behind it and then a slash, what begins with that @.
_WITH_SLASH: Final = re.compile(
    r'(?<!ssh)://[^/\s:\[]*:(?!\d*/)((?:(?!://)[^\s"/@])*/(?:(?!://)[^\s"])*?)@(?![^\s/?#@]*@)'
)


class Redactor:
    """Knows the secrets that this process has been given, and takes them out of texts. From any thread.

    It costs a search of the text for each form of each known key: for ever are only this server's own, of the
    clients' those that a load uses, and the last `RECENT` others.
    """

    def __init__(self, whole: "Redactor | None" = None) -> None:
        self._whole = whole
        self._own: dict[str, frozenset[str]] = {}
        self._given: dict[str, frozenset[str]] = {}
        # Lists and not a pattern of them all, which takes seconds to compile, and always new ones: threads that log
        # may be going through the old one.
        self._forms: list[str] = []
        self._merged: tuple[list[str], list[str]] = ([], [])

    def add(self, secret: str | None) -> None:
        """From now on this value of the server's own, in all its forms, and both ends of a long one, are taken out."""
        if secret and len(secret) >= SHORTEST and secret not in self._own:
            self._own[secret] = forms(secret) | ends(secret)
            self._rebuild()

    def add_found(self, environ: Mapping[str, str], urls: Iterable[str | None] = ()) -> None:
        """The same for the user's own secrets that programs we start may speak of (`secrets_of`)."""
        for secret in secrets_of(environ, urls):
            self.add(secret)

    def seen(self, key: str | None, in_use: Iterable[str | None] = ()) -> None:
        """A key for a provider has come: it is known until `RECENT` others came that are not `in_use` any more."""
        if not _is_telling(key):
            return
        used = {key, *in_use}
        # Those in use to the end: whose use ends after this has its last words before it for as long as others.
        unused = [(known, its) for known, its in self._given.items() if known not in used]
        kept = [(known, its) for known, its in self._given.items() if known in used]
        before = self._given.keys()
        self._given = dict([*unused[-RECENT:], *kept, (key, self._given.get(key) or forms(key))])
        if self._given.keys() != before:
            self._rebuild()

    def including(self, key: str | None) -> "Redactor":
        """One that takes out this key as well, however short, and its ends: for what comes from whoever got it."""
        redactor = Redactor(self)
        redactor.add(key)
        return redactor

    def scrub(self, text: str) -> str:
        """`text` without any known secret and without anything that looks like a key."""
        # Shapes first: a key that a service half masked ("sk-abcd****wxyz") is one only while it is whole.
        text = without_shapes(text)
        for form in self._all_forms():
            text = text.replace(form, MASK)
        return text

    def _rebuild(self) -> None:
        self._forms = longest_first(frozenset().union(*self._own.values(), *self._given.values()))
        self._merged = ([], [])

    def _all_forms(self) -> list[str]:
        if self._whole is None:
            return self._forms
        theirs = self._whole._forms
        of, merged = self._merged
        if of is not theirs:
            merged = longest_first(frozenset(theirs).union(self._forms))
            self._merged = theirs, merged
        return merged


def _is_telling(key: str | None) -> TypeGuard[str]:
    """Whether a value is found in texts only where somebody means it."""
    return key is not None and len(key) >= _TELLING and not any(character.isspace() for character in key)


def secrets_of(environ: Mapping[str, str], urls: Iterable[str | None] = ()) -> Iterator[str]:
    """Passwords in URLs, which may stand in variables too, and what variables that are named so hold."""
    found = [value for name, value in environ.items() if _NAMES.search(name)]
    for url in (*urls, *environ.values()):
        for password in (*_USER.findall(url or ""), *_WITH_SLASH.findall(url or "")):
            found += {password, unquote(password)}
    return (secret for secret in found if len(secret) >= _SHORTEST_FOUND)
