"""The service a worker talks to: its name, its address, and what of it may be told to a client. Pure."""

import re
from typing import Final
from urllib.parse import urlsplit

from waifu_worker.provider import ProviderError
from waifu_worker.scrub import Scrubber
from waifu_worker.wire import Code

_MASKED: Final = re.compile(r"\S*\*{3}\S*")
_LONGEST_QUOTE: Final = 160


class Upstream:
    """A service. `base_url` has no slash at its end; no text from here holds the `key`."""

    def __init__(self, title: str, base_url: str, key: str | None = None) -> None:
        self.title = title
        self.base_url = base_url
        self.host = urlsplit(base_url).netloc
        self._scrubber = Scrubber()
        self._scrubber.add(key)

    def quote(self, text: str) -> str:
        """What the service said, fit for a message: one line, at most 160 characters, no key in it."""
        # Services echo keys in their error texts, or both ends of one with asterisks between them.
        text = self._scrubber.scrub(_MASKED.sub("[redacted]", " ".join(text.split())))
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
