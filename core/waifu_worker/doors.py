"""Who may connect to a server of ours: the rules for Host, Origin and token. Pure and total: no header value raises.

One set of rules for the module and every gateway. Sources: a page in the user's browser may open any WebSocket
(cross-site hijacking), and a name that it rebinds to loopback makes it same-origin; both lists are needed.
"""

import base64
import binascii
import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

_BEARER_PROTOCOL: Final = "bearer."
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]{0,63})://(.*)")
_LONGEST_HOST: Final = 253
_LOOPBACK_4: Final = ipaddress.ip_network("127.0.0.0/8")
_LOOPBACK_6: Final = ipaddress.ip_network("::1/128")
# Bound to, these mean every address; as a Host only a page that tries to sneak in sends them.
WILDCARDS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - named to be refused

Origin: TypeAlias = tuple[str, str, int | None]


class Denied(msgspec.Struct, frozen=True):
    """The HTTP answer to somebody who may not connect; `text` says what to do."""

    status: int
    text: str


def parse_host(value: str) -> tuple[str, int | None] | None:
    """`host[:port]` in lower case, an IPv6 address without brackets; None where it is malformed."""
    value = value.lower()
    if value.startswith("["):
        address, bracket, rest = value[1:].partition("]")
        if not bracket or not _is_ipv6(address) or (rest and not rest.startswith(":")):
            return None
        host, colon, port = address, rest[:1], rest[1:]
    else:
        host, colon, port = value.partition(":")
        if not _is_name(host):
            return None
    if not colon:
        return host, None
    if not _PORT.fullmatch(port) or int(port) > 65535:
        return None
    return host, int(port)


def parse_origin(value: str) -> Origin | None:
    """Scheme, host and port (the scheme's own where none is given); None where it is malformed or `null`."""
    match = _ORIGIN.fullmatch(value.lower())
    if match is None:
        return None
    scheme, authority = match.groups()
    if not authority and scheme not in _DEFAULT_PORTS:
        # Desktop shells have origins such as file://, which can be listed.
        return scheme, "", None
    parsed = parse_host(authority)
    if parsed is None:
        return None
    host, port = parsed
    return scheme, host, _DEFAULT_PORTS.get(scheme) if port is None else port


def is_loopback(host: str) -> bool:
    """`localhost`, an address of 127.0.0.0/8 in its full form, or ::1; no other name."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address in (_LOOPBACK_6 if address.version == 6 else _LOOPBACK_4)


def _is_ipv6(text: str) -> bool:
    try:
        return "%" not in text and ipaddress.IPv6Address(text) is not None
    except ValueError:
        return False


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_HOST and all(_LABEL.fullmatch(label) for label in text.split("."))


class Listed(msgspec.Struct, frozen=True):
    """A list of the config file: the name of its key, and what stands in it."""

    key: str
    values: Sequence[str]


class Doors(msgspec.Struct, frozen=True):
    """The rules of one server, read once at start. `…_key`: the config keys that the answers name."""

    hosts_key: str
    origins_key: str
    hosts: frozenset[str]
    origins: frozenset[Origin]
    token: str | None

    def __repr__(self) -> str:
        return f"Doors(hosts={self.hosts!r}, origins={self.origins!r})"

    @classmethod
    def of(cls, host: str, hosts: Listed, origins: Listed, token: str | None) -> "Doors":
        """The rules of a server that listens on `host`, beside what its lists add. Raises: ValueError, a sentence."""
        return cls(
            hosts_key=hosts.key,
            origins_key=origins.key,
            hosts=frozenset({host.lower(), *_listed_hosts(hosts)} - WILDCARDS),
            origins=frozenset(_listed_origins(origins)),
            token=token or None,
        )

    def check_names(self, hosts: Sequence[str], origins: Sequence[str]) -> Denied | None:
        """Each argument holds all values of one header; None where they may come in."""
        if len(hosts) != 1 or not self._knows_host(hosts[0]):
            return Denied(403, f"This Host is not allowed; list it in {self.hosts_key}.\n")
        if origins and (len(origins) != 1 or not self._knows_origin(origins[0])):
            return Denied(403, f"This Origin is not allowed; list it in {self.origins_key}.\n")
        return None

    def check_token(self, authorizations: Iterable[str], subprotocols: Iterable[str]) -> Denied | None:
        """Each argument holds all values of one header; None where they hold the token, or none is needed."""
        if self.token is None or carries_token(self.token, authorizations, subprotocols):
            return None
        return Denied(401, "A token is needed: send Authorization: Bearer <token>.\n")

    def _knows_host(self, value: str) -> bool:
        parsed = parse_host(value)
        return parsed is not None and (is_loopback(parsed[0]) or parsed[0] in self.hosts)

    def _knows_origin(self, value: str) -> bool:
        origin = parse_origin(value)
        if origin is None:
            return False
        return origin in self.origins or (origin[0] in ("http", "https") and is_loopback(origin[1]))


def carries_token(expected: str, authorizations: Iterable[str], subprotocols: Iterable[str] = ()) -> bool:
    """Whether these values of `Authorization` or `Sec-WebSocket-Protocol` hold the token."""
    offered = [value[len("bearer ") :].strip() for value in authorizations if value[:7].lower() == "bearer "]
    for value in subprotocols:
        offered.extend(_tokens_in(value))
    matches = False
    # Every one is compared, so that the time taken tells nothing.
    for token in offered:
        matches |= is_token(expected, token)
    return matches


def is_token(expected: str, offered: str) -> bool:
    """Whether they are equal, in a time that tells nothing about where they differ."""
    return hmac.compare_digest(_as_bytes(offered), _as_bytes(expected))


def _as_bytes(text: str) -> bytes:
    """Header values come with undecodable bytes escaped; those become the bytes they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _tokens_in(subprotocols: str) -> Iterable[str]:
    """What the subprotocols `bearer.<base64url>` of one header value hold."""
    for name in subprotocols.split(","):
        protocol = name.strip()
        if protocol.startswith(_BEARER_PROTOCOL):
            encoded = protocol[len(_BEARER_PROTOCOL) :].rstrip("=")
            try:
                yield base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            except (binascii.Error, ValueError):
                continue


def _listed_hosts(listed: Listed) -> Iterable[str]:
    for value in listed.values:
        parsed = parse_host(value)
        if parsed is None:
            raise ValueError(f"{value!r} in {listed.key} is no host name")
        yield parsed[0]


def _listed_origins(listed: Listed) -> Iterable[Origin]:
    for value in listed.values:
        origin = parse_origin(value)
        if origin is None:
            raise ValueError(f"{value!r} in {listed.key} is no origin such as https://example.org:8443")
        yield origin
