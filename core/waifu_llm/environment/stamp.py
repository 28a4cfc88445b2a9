"""What an environment is built from, as a folder's name and as a stamp in it. Pure."""

import hashlib
import sys
from typing import Final, Self

import msgspec

STAMP_FILE: Final = "waifu-llm-stamp.json"
_DIGEST_LENGTH: Final = 16


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """All that makes one environment another one. `lock` is the digest of the lock's text."""

    lock: str
    python: str
    abi: str
    platform: str
    unhashed: tuple[str, ...] = ()

    @classmethod
    def here(cls, lock_text: str, unhashed: tuple[str, ...] = ()) -> Self:
        """The basis of an environment that the running interpreter's base would get."""
        import sysconfig  # late: the module listens before it looks at any environment

        return cls(
            lock=_digest(lock_text.replace("\r\n", "\n")),
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            abi=str(sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag),
            platform=sysconfig.get_platform(),
            unhashed=unhashed,
        )

    def folder_name(self, name: str) -> str:
        """`<name>-<digest>`; no provider's name has a hyphen."""
        return f"{name}-{_digest(msgspec.json.encode(self).decode())[:_DIGEST_LENGTH]}"


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """Written last: an environment with it is complete. What follows `basis` is recorded and never makes it stale.

    `interpreter`, its patch `version` and `identity` (size, time in ns) are the base Python's; `uv` is its version;
    `packages` are what was installed, as `name-version`.
    """

    name: str
    basis: Basis
    interpreter: str
    version: str
    identity: tuple[int, int]
    uv: str
    packages: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The bytes of the stamp file."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def recorded(data: bytes) -> Stamp:
    """The stamp in these bytes. Raises: ValueError."""
    try:
        return msgspec.json.decode(data, type=Stamp)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def problem(data: bytes, name: str, basis: Basis) -> str | None:
    """Why these bytes of a stamp file do not stand for that environment, as a sentence; None where they do."""
    try:
        stamp = recorded(data)
    except ValueError:
        return "its stamp cannot be read"
    if stamp.name != name:
        return f"its stamp is {stamp.name[:64]!r}'s"
    for field in Basis.__struct_fields__:
        if getattr(stamp.basis, field) != getattr(basis, field):
            return f"it was built from another {_WORDS[field]}"
    return None


_WORDS: Final = {
    "lock": "lock",
    "python": "Python version",
    "abi": "Python build",
    "platform": "platform",
    "unhashed": "pin of an unhashed package",
}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
