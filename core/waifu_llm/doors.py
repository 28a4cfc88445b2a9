"""Who may connect: the rules for Host, Origin and token. Pure and total: no header value makes them raise."""

import base64
import binascii
import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from waifu_llm.config import ServerSettings
from waifu_llm.errors import UsageError

SUBPROTOCOL: Final = "waifu-llm"
_BEARER_PROTOCOL: Final = "bearer."
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]{0,63})://(.*)")
_LONGEST_HOST: Final = 253
_LOOPBACK_4: Final = ipaddress.ip_network("127.0.0.0/8")
_LOOPBACK_6: Final = ipaddress.ip_network("::1/128")
# Bound to, these mean every address; as a Host only a page that tries to sneak in sends them.
_WILDCARDS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - named to be refused

Origin: TypeAlias = tuple[str, str, int | None]


@dataclass(frozen=True, slots=True)
class Denied:
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


@dataclass(frozen=True, slots=True)
class Doors:
    """The rules of one run, read once at start. `warnings` are sentences for the log."""

    loopback: bool
    isolated: bool
    hosts: frozenset[str]
    origins: frozenset[Origin]
    token: str | None = field(repr=False)
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: ServerSettings, token: str | None) -> "Doors":
        """The rules that the settings make. Raises: UsageError."""
        loopback = is_loopback(settings.host.lower())
        if not loopback and not token:
            raise UsageError(
                f"listening on {settings.host} lets other machines in: set a token first "
                "(the variable WAIFU_LLM_TOKEN, or server.token_file in waifu-llm.toml)"
            )
        if (settings.tls_cert is None) != (settings.tls_key is None):
            raise UsageError("server.tls_cert and server.tls_key belong together: set both or neither")
        return cls(
            loopback=loopback,
            isolated=settings.isolate_clients or not loopback,
            hosts=frozenset({settings.host.lower(), *_listed_hosts(settings.allow_host)} - _WILDCARDS),
            origins=frozenset(_listed_origins(settings.allow_origin)),
            token=token or None,
            warnings=() if loopback else tuple(_risks(settings)),
        )

    def check(
        self, hosts: Sequence[str], origins: Sequence[str], authorizations: Sequence[str], subprotocols: Sequence[str]
    ) -> Denied | None:
        """Each argument holds all values of one header; None lets the connection in."""
        if len(hosts) != 1 or not self._knows_host(hosts[0]):
            return Denied(403, "This Host is not allowed; list it in server.allow_host.\n")
        if origins and (len(origins) != 1 or not self._knows_origin(origins[0])):
            return Denied(403, "This Origin is not allowed; list it with --allow-origin.\n")
        if self.token is not None and not self._has_token(authorizations, subprotocols):
            return Denied(401, "A token is needed: send Authorization: Bearer <token>.\n")
        return None

    def _knows_host(self, value: str) -> bool:
        parsed = parse_host(value)
        return parsed is not None and (is_loopback(parsed[0]) or parsed[0] in self.hosts)

    def _knows_origin(self, value: str) -> bool:
        origin = parse_origin(value)
        if origin is None:
            return False
        return origin in self.origins or (origin[0] in ("http", "https") and is_loopback(origin[1]))

    def _has_token(self, authorizations: Iterable[str], subprotocols: Iterable[str]) -> bool:
        offered = [value[len("bearer ") :].strip() for value in authorizations if value[:7].lower() == "bearer "]
        for value in subprotocols:
            offered.extend(_tokens_in(value))
        assert self.token is not None
        expected, matches = _as_bytes(self.token), False
        # Every one is compared, so that the time taken tells nothing.
        for token in offered:
            matches |= hmac.compare_digest(_as_bytes(token), expected)
        return matches


def _as_bytes(text: str) -> bytes:
    """Header values come with undecodable bytes escaped; those become the bytes they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _risks(settings: ServerSettings) -> Iterable[str]:
    """What somebody who opens the module to other machines should know."""
    if settings.tls_cert is None:
        yield (
            f"listening on {settings.host} without TLS: the token, keys and texts can be read on the network; "
            "set server.tls_cert and server.tls_key"
        )
    if settings.host in _WILDCARDS and not settings.allow_host:
        yield (
            "other machines cannot connect yet: list the names and addresses by which they reach this one "
            "in server.allow_host"
        )


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


def _listed_hosts(values: Iterable[str]) -> Iterable[str]:
    for value in values:
        parsed = parse_host(value)
        if parsed is None:
            raise UsageError(f"{value!r} in server.allow_host is no host name")
        yield parsed[0]


def _listed_origins(values: Iterable[str]) -> Iterable[Origin]:
    for value in values:
        origin = parse_origin(value)
        if origin is None:
            raise UsageError(f"{value!r} in server.allow_origin is no origin such as https://example.org:8443")
        yield origin
