"""Keys never leave a worker in an error text or a traceback: those it was given are known by value. Pure."""

import base64
import re
from typing import Final
from urllib.parse import quote, quote_plus

_MASK: Final = "[redacted]"
_SHAPES: Final = re.compile(r"\b(?:sk|gsk|pst|hf|xai)[-_][A-Za-z0-9_\-.*]{8,}|(?<=[Bb]earer )[A-Za-z0-9_\-.~+/=]{8,}")
_SHORTEST: Final = 4
_LONG: Final = 24


class Scrubber:
    """Takes keys out of texts."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def add(self, key: str | None) -> None:
        """From now on this key, its URL-quoted and base64 forms, and both ends of a long one, leave in no text."""
        if not key or len(key) < _SHORTEST:
            return
        raw = key.encode("utf-8", "replace")
        self._secrets |= {key, quote(raw, safe=""), quote_plus(raw)}
        self._secrets |= {form(raw).decode().rstrip("=") for form in (base64.b64encode, base64.urlsafe_b64encode)}
        if len(key) >= _LONG:
            self._secrets |= {key[:8], key[-8:]}

    def scrub(self, text: str) -> str:
        """`text` without any known key and without anything shaped like one."""
        # Shapes first: a key that a service half masked ("sk-abcd****wxyz") is one only while it is whole.
        text = _SHAPES.sub(_MASK, text)
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, _MASK)
        return text
