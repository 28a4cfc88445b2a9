"""The gateway's options, checked: read once at its start, and no program that connects can change them."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from waifu_worker.doors import Doors, Listed, is_loopback
from waifu_worker.gateway import CannotServe
from waifu_worker.wire import Start

_SECTION: Final = "gateway.lollms"
_TOKEN: Final = re.compile(r"[!-~]+\Z")
_LONGEST_TOKEN: Final = 4096
_HIGHEST_PORT: Final = 65535


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `[gateway.lollms]` says. `token` is None where none is needed; it is in no repr."""

    host: str = "localhost"
    port: int = 9600
    token_file: str | None = None
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    personality_roots: tuple[str, ...] = ()
    queue_length: int = 4
    connections: int = 256
    events_per_s: int = 50
    token: str | None = None

    def __repr__(self) -> str:
        return f"GatewaySettings(host={self.host!r}, port={self.port}, with_token={self.token is not None})"

    def doors(self) -> Doors:
        """Who may connect. Raises: CannotServe where a list holds what is no host or origin."""
        try:
            return Doors.of(
                self.host,
                Listed(f"{_SECTION}.allowed_hosts", self.allowed_hosts),
                Listed(f"{_SECTION}.allowed_origins", self.allowed_origins),
                self.token,
            )
        except ValueError as error:
            raise CannotServe(str(error)) from error


def read_settings(start: Start) -> GatewaySettings:
    """The settings of one start; reads the token file, so it blocks.

    Raises: CannotServe: a number out of range, a token file that is of no use or that others may read, or an address
    that other computers reach without a token.
    """
    given = {name: value for name, value in start.settings.items() if value is not None}
    try:
        settings = msgspec.convert({**given, "token": None}, GatewaySettings)
    except msgspec.ValidationError as error:
        raise CannotServe(f"{_SECTION}: {error}") from error
    _check_numbers(settings)
    if settings.token_file is not None:
        settings = msgspec.structs.replace(settings, token=_read_token(Path(settings.token_file)))
    if settings.token is None and not is_loopback(settings.host.lower()):
        raise CannotServe(
            f"{_SECTION}.host {settings.host} can be reached by other computers, so a token is needed: "
            f"write one into a file and name it in {_SECTION}.token_file"
        )
    settings.doors()
    return settings


def _check_numbers(settings: GatewaySettings) -> None:
    ranges: tuple[tuple[str, int, Callable[[int], bool], str], ...] = (
        ("port", settings.port, lambda port: 0 <= port <= _HIGHEST_PORT, f"between 0 and {_HIGHEST_PORT}"),
        ("queue_length", settings.queue_length, lambda length: length >= 0, "0 or more"),
        ("connections", settings.connections, lambda count: count >= 1, "1 or more"),
        ("events_per_s", settings.events_per_s, lambda rate: rate >= 1, "1 or more"),
    )
    for name, value, fits, words in ranges:
        if not fits(value):
            raise CannotServe(f"{_SECTION}.{name} is {value}, but must be {words}")


def _read_token(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            token = opened.read(_LONGEST_TOKEN + 2).decode("utf-8", "replace").strip()
    except OSError as error:
        raise CannotServe(
            f"the file {file} of {_SECTION}.token_file cannot be read: {error.strerror or error}"
        ) from error
    if os.name != "nt" and mode & 0o077:
        raise CannotServe(f"the file {file} of {_SECTION}.token_file is open to other users; run: chmod 600 {file}")
    if not _TOKEN.match(token) or len(token) > _LONGEST_TOKEN:
        raise CannotServe(
            f"the file {file} of {_SECTION}.token_file holds no usable token: one line of printable ASCII without "
            "blanks is needed"
        )
    return token
