"""Keys never reach a log or a message: secrets are known by value and taken out of every text. Pure."""

import base64
import re
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "[redacted]"
_SHAPES: Final = re.compile(r"\b(?:sk|gsk|pst|hf|xai)[-_][A-Za-z0-9_\-.*]{8,}")
_BEARER: Final = re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9_\-.~+/=]{8,}")
_SHORTEST: Final = 4


class Redactor:
    """Knows every secret this process has been given, and takes them out of texts."""

    def __init__(self) -> None:
        # A plain list, longest first: a pattern of them all takes seconds to compile once clients have brought
        # a few hundred keys, and everybody would wait for it.
        self._forms: list[str] = []
        self._secrets: set[str] = set()

    def add(self, secret: str | None) -> None:
        """From now on this value, and its URL-quoted and base64 forms, never leave in a text."""
        if not secret or len(secret) < _SHORTEST or secret in self._secrets:
            return
        self._secrets.add(secret)
        forms = {secret, quote(secret, safe=""), quote_plus(secret)}
        forms.add(base64.b64encode(secret.encode("utf-8", "replace")).decode().rstrip("="))
        forms.add(base64.urlsafe_b64encode(secret.encode("utf-8", "replace")).decode().rstrip("="))
        if len(secret) >= 24:
            # A service that masks a key often leaves one of its ends; eight characters of it are enough to tell.
            forms.update((secret[:8], secret[-8:]))
        # A new list: threads that log may be going through the old one.
        self._forms = sorted([*self._forms, *forms], key=len, reverse=True)

    def scrub(self, text: str) -> str:
        """`text` without any known secret and without anything that looks like a key."""
        # Shapes first: a key that a service half masked ("sk-abcd****wxyz") is one only while it is whole.
        text = _BEARER.sub(rf"\1{MASK}", _SHAPES.sub(MASK, text))
        for form in self._forms:
            text = text.replace(form, MASK)
        return text
