"""The service a worker talks to: its name, its address, and what of it may be told to a client. Pure."""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from waifu_worker.provider import ProviderError
from waifu_worker.wire import Code

_MASK: Final = "[redacted]"
# Services echo keys, or masked beginnings of them, in their error texts.
_KEY_SHAPES: Final = re.compile(r"\b(?:sk|gsk|pst|hf|xai)[-_][A-Za-z0-9_\-.*]{8,}")
_SHORTEST_SECRET: Final = 4
_LONGEST_QUOTE: Final = 300
_TELLING_END: Final = 8
_LONG_SECRET: Final = 24


@dataclass(frozen=True, slots=True)
class Upstream:
    """A service. `base_url` has no slash at its end; `secret` is the key that no text may hold."""

    title: str
    base_url: str
    secret: str | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """Host and port, as messages name them."""
        return urlsplit(self.base_url).netloc

    def quote(self, text: str) -> str:
        """What the service said, fit for a message: one line, at most 300 characters, no key in it."""
        text = " ".join(text.split())
        secret = self.secret or ""
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _MASK)
        if len(secret) >= _LONG_SECRET:
            text = text.replace(secret[:_TELLING_END], _MASK).replace(secret[-_TELLING_END:], _MASK)
        text = _KEY_SHAPES.sub(_MASK, text)
        return text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"


def clean_base_url(url: object) -> str:
    """An address to put paths behind. Raises: ProviderError where it is no http(s) address."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username is not None:
        raise ProviderError(
            Code.UNEXPECTED, "base_url is not an address like https://host/v1 (http or https; no user, ? or # in it)"
        )
    return parts.geturl().rstrip("/")


def clean_key(key: str | None, title: str) -> str | None:
    """The key as a header takes it, None for none. Raises: ProviderError where no key can look like that."""
    key = (key or "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ProviderError(
            Code.AUTHORIZATION, f"the API key holds characters that no key of {title} has: copy it again"
        )
    return key or None


def header_value(value: object, option: str) -> str | None:
    """An option that travels as a header, None for none. Raises: ProviderError where a header can't hold it."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise ProviderError(Code.UNEXPECTED, f"the option {option} holds characters that can't be sent")
    return value.strip()
