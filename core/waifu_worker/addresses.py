"""Which addresses are never a provider's: link-local and metadata ones, in every form that resolvers take; and what
of an address may be told. Pure.

From them a cloud machine's own credentials can be read, so neither a load may name one nor a name lead to one.
"""

import ipaddress
import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_NAMES: Final = frozenset(
    {
        "metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal",
        "metadata.tencentyun.com",
    }
)  # fmt: skip
_NETWORKS: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.0.0/16",
        "fe80::/10",
        "fd00:ec2::/32",  # Amazon
        "fd20:ce::/32",  # Google
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure
        "192.0.0.192/32",  # Oracle
    )
)
# What IPv4 addresses are written into: IPv4-compatible, IPv4-mapped, SIIT and NAT64 ones end with theirs.
_TRANSLATED: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_-])?")
_NUMBER: Final = re.compile(r"0x[0-9a-f]*|[0-9]+")
_DOTS: Final = re.compile("[\u3002\uff0e\uff61]")
_LONGEST: Final = 253
# A password that was not escaped may hold all that ends a host: what has an @ behind that is not taken apart.
_PLACE: Final = re.compile(
    r"[a-z0-9+.-]+://(?:[^/?#]*@)?(?P<host>\[[0-9a-f:.]+\]|[\w.-]+)(?::(?P<port>\d*))?(?:[/?#][^@]*)?", re.IGNORECASE
)


class NoHost(ValueError):
    """A text that names no host."""


def place(url: str) -> tuple[str, str] | None:
    """The host of an address, as it is written there, and the port or "": what may be told of it.

    None where it can't be taken apart for sure, so that no piece of a password is told.
    """
    match = _PLACE.fullmatch(url)
    return None if match is None else (match["host"], match["port"] or "")


def parse(host: str) -> Address | str:
    """What a resolver makes of a URL's host, without brackets: an address, or a name in plain lower case.

    A number, a part left out, octal and hexadecimal parts, full-width digits: all are addresses to it.
    Raises: NoHost.
    """
    if ":" in host:
        return _ipv6(host)
    name = _plain(host).rstrip(".")
    if len(name) > _LONGEST or ".." in name or not _HOST.fullmatch(name):
        raise NoHost("it has characters that no host has")
    # Where the last part is a number, all of it is one to a resolver, or nothing.
    return _ipv4(name) if _NUMBER.fullmatch(name.rpartition(".")[2]) else name


def _plain(host: str) -> str:
    if host.isascii():
        return host.lower()
    try:
        return _DOTS.sub(".", host).rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise NoHost("it has characters that no host has") from error


def _ipv6(text: str) -> IPv6Address:
    if "%" in text:
        raise NoHost("an address with a zone belongs to one machine alone")
    try:
        return IPv6Address(text)
    except ValueError as error:
        raise NoHost("it is no IPv6 address") from error


def _ipv4(text: str) -> IPv4Address:
    """The forms of inet_aton: one to four numbers, of which the last fills what the others leave."""
    numbers = [_number(part) for part in text.split(".")]
    *parts, last = numbers
    if len(numbers) > 4 or any(part > 255 for part in parts) or last >= 1 << 8 * (4 - len(parts)):
        raise NoHost("it is no IPv4 address")
    value = last
    for place, part in enumerate(parts):
        value |= part << 8 * (3 - place)
    return IPv4Address(value)


def _number(part: str) -> int:
    try:
        if part.startswith("0x"):
            return int(part[2:] or "0", 16)
        return int(part, 8 if len(part) > 1 and part.startswith("0") else 10)
    except ValueError as error:
        raise NoHost("it is no IPv4 address") from error


def is_never_a_provider(host: str | Address) -> bool:
    """Whether a host, as `parse` gives it or as a resolver does, is a link-local or metadata one."""
    if isinstance(host, str):
        return host in _NAMES
    return any(address in network for address in (host, *_inside(host)) for network in _NETWORKS)


def leads_nowhere_good(address: str) -> bool:
    """The same of an address as a socket is given it, perhaps with a zone: `fe80::1%eth0`."""
    return is_never_a_provider(ipaddress.ip_address(address.partition("%")[0]))


def _inside(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 address carries."""
    if isinstance(address, IPv4Address):
        return
    bits = int(address)
    low = IPv4Address(bits & 0xFFFF_FFFF)
    if any(address in network for network in _TRANSLATED) or bits >> 32 & 0xFFFF_FFFF in _ISATAP:
        yield low
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
