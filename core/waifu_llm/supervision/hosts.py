"""Addresses in the short forms that some services take: `:port`, `host`, `host:port`, or a whole URL. Pure."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

# What a server listens on when it means every address; whoever asks it on this machine means this machine.
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens there, it is replaced


def completed(text: str, default: str) -> str:
    """`text` as a URL; what it leaves out is the `default` URL's. A URL without a port keeps its scheme's own.

    Says nothing about whether the result is a good URL. Raises: ValueError where it can't be taken apart.
    """
    own = urlsplit(default)
    text = text.strip()
    if "://" in text:
        scheme, _, rest = text.partition("://")
        place, port = rest, None
    else:
        scheme, place, port = own.scheme, text, own.port
    place, slash, path = place.partition("/")
    host, port_text = _taken_apart(place)
    host = _WILDCARDS.get(host, host) or own.hostname or ""
    if not port_text and port is not None:
        port_text = str(port)
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}{':' if port_text else ''}{port_text}{slash}{path}"


def _taken_apart(place: str) -> tuple[str, str]:
    """Host, without brackets, and port; either may be ""."""
    bare = place[1:-1] if place.startswith("[") and place.endswith("]") else place
    if _is_ipv6(bare):
        return bare, ""
    host, _, port = place.rpartition(":") if ":" in place else (place, "", "")
    if host.startswith("[") != host.endswith("]"):
        raise ValueError("a bracket is missing")
    return host.strip("[]"), port


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
