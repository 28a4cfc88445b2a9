"""Keys never leave in an error text or a traceback: those that were given are known by value. Pure.

The forms in which a key may come back are the same for a worker and for the core, which has its own `redaction`.
"""

import base64
import json
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "[redacted]"
SHORTEST: Final = 4
_LONG: Final = 24
_SHORTEST_CODE: Final = 8
_SHAPES: Final = re.compile(r"\b(?:sk|gsk|pst|hf|xai)[-_][A-Za-z0-9_\-.*]{8,}")
_BEARER: Final = re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9_\-.~+/=]{8,}")
_USER: Final = re.compile(r"(?<=://)[^/\s'\"<>]{1,1024}@")
_ESCAPED: Final = re.compile(r"%[0-9A-F]{2}")


def without_shapes(text: str) -> str:
    """`text` without what looks like a key, and without the user and password of a URL."""
    text = _BEARER.sub(rf"\1{MASK}", _SHAPES.sub(MASK, text))
    return _USER.sub(f"{MASK}@", text)


def forms(secret: str) -> frozenset[str]:
    """The value as others write it: plain, escaped for URLs, JSON and Python, and inside of base64 (Basic too)."""
    raw = secret.encode("utf-8", "replace")
    found = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    for escaped in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        found |= {escaped, _ESCAPED.sub(lambda match: match[0].lower(), escaped)}
    return frozenset(found.union(_base64(raw)))


def ends(secret: str) -> frozenset[str]:
    """What a service that masks a long key often leaves of it: eight characters are enough to tell."""
    return frozenset((secret[:8], secret[-8:]) if len(secret) >= _LONG else ())


def longest_first(texts: frozenset[str]) -> list[str]:
    """In the order in which they must be replaced: what is part of another one comes after it."""
    return sorted(texts, key=len, reverse=True)


def _base64(raw: bytes) -> Iterator[str]:
    """Its code as a whole, and what stands for it inside of a longer text, wherever it begins there."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode().rstrip("=")
        for before in range(3):
            # Characters that also code what stands before or after it are left out.
            inside = encode(bytes(before) + raw)[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6].decode()
            if len(inside) >= _SHORTEST_CODE:
                yield inside


class Scrubber:
    """Takes keys out of texts."""

    def __init__(self) -> None:
        self._forms: frozenset[str] = frozenset()

    def add(self, key: str | None) -> None:
        """From now on this key, in any of its forms, and both ends of a long one, leave in no text."""
        if key and len(key) >= SHORTEST:
            self._forms |= forms(key) | ends(key)

    def scrub(self, text: str) -> str:
        """`text` without any known key and without anything shaped like one."""
        # Shapes first: a key that a service half masked ("sk-abcd****wxyz") is one only while it is whole.
        text = without_shapes(text)
        for form in longest_first(self._forms):
            text = text.replace(form, MASK)
        return text
