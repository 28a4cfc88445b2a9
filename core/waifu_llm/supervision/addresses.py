"""Which services clients may have this module talk to. Pure.

On loopback whoever may load may reach other machines by himself anyway; off it a client could use this one to reach
what only it can, so there a load may name only what the operator named before.
"""

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import msgspec

from waifu_llm.config import ServerSettings
from waifu_llm.errors import UsageError
from waifu_worker.doors import is_loopback, parse_host

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

Origin = tuple[str, str | None, int | None]


def origin_of(url: str) -> Origin:
    """Scheme, host and port (the scheme's own where none is given) of a URL that was checked."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


class Upstreams(msgspec.Struct, frozen=True):
    """The rule of one run. `listed`: hosts with a port, or with None for the ports of http and https."""

    any_host: bool = True
    listed: frozenset[tuple[str, int | None]] = frozenset()

    @classmethod
    def of(cls, server: ServerSettings) -> "Upstreams":
        """The rule that the settings make. Raises: UsageError."""
        listed = set()
        for text in server.allow_upstream:
            parsed = parse_host(text)
            if parsed is None:
                raise UsageError(
                    f"{text!r} in server.allow_upstream is no host such as llm.example.org or 10.0.0.5:8080"
                )
            listed.add(parsed)
        return cls(is_loopback(server.host.lower()), frozenset(listed))

    def allows(self, url: str, configured: Iterable[object]) -> bool:
        """Whether a load may name this URL; `configured` are the addresses that the operator gave the option."""
        scheme, host, port = origin = origin_of(url)
        return (
            self.any_host
            or origin in {origin_of(own) for own in configured if isinstance(own, str)}
            or (host, port) in self.listed
            or ((host, None) in self.listed and port == _DEFAULT_PORTS[scheme])
        )


ANY_UPSTREAM: Final = Upstreams()
