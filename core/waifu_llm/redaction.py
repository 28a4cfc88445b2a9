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
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secret: str | None) -> None:
        """From now on this value, and its URL-quoted and base64 forms, never leave in a text."""
        if not secret or len(secret) < _SHORTEST:
            return
        forms = {secret, quote(secret, safe=""), quote_plus(secret)}
        forms.add(base64.b64encode(secret.encode("utf-8", "replace")).decode().rstrip("="))
        forms.add(base64.urlsafe_b64encode(secret.encode("utf-8", "replace")).decode().rstrip("="))
        if len(secret) >= 24:
            # A service that masks a key often leaves one of its ends; eight characters of it are enough to tell.
            forms.update((secret[:8], secret[-8:]))
        if not forms <= self._forms:
            self._forms |= forms
            longest_first = sorted(self._forms, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def scrub(self, text: str) -> str:
        """`text` without any known secret and without anything that looks like a key."""
        # Shapes first: a key that a service half masked ("sk-abcd****wxyz") is one only while it is whole.
        text = _BEARER.sub(rf"\1{MASK}", _SHAPES.sub(MASK, text))
        return text if self._pattern is None else self._pattern.sub(MASK, text)
