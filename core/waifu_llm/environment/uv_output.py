"""What uv writes, as progress while it works and as one sentence where it fails. Pure."""

import re
from typing import Final

from waifu_llm.environment.model import BuildProgress
from waifu_worker.addresses import place

LONGEST: Final = 300
_RESOLVED: Final = re.compile(r"Resolved (\d+) packages? in")
_PREPARED: Final = re.compile(r"Prepared (\d+) packages? in")
_INSTALLED: Final = re.compile(r"Installed (\d+) packages? in")
_DOWNLOADING: Final = re.compile(r"Downloading (\S+) \(([^)]+)\)")
_DOWNLOADED: Final = re.compile(r"Downloaded (\S+)")
_WRONG_HASH: Final = re.compile(r"Hash mismatch for `([^`]+)`")
_DISK_FULL: Final = re.compile(
    r"No space left on device|os error 28\b|os error 112\b|[Dd]isk quota exceeded|os error 122\b"
)
_NO_NETWORK: Final = re.compile(
    r"error sending request|[Rr]equest failed after|dns error|Failed to fetch|Failed to download|[Cc]onnection refused"
    r"|tcp connect error|timed out"
)
_ADDRESS: Final = re.compile(r"https?://\S+")
# What uv puts behind an address.
_AROUND: Final = "`'\"),.:;"
_OFFLINE: Final = re.compile(r"network was disabled|[Nn]etwork connectivity is disabled")
_NO_MATCH: Final = re.compile(
    r"No solution found|no wheels? (?:with|for)|no matching|not found in the package registry"
)


class UvProgress:
    """Counts uv's lines; give each line to `feed`."""

    def __init__(self) -> None:
        self._begun = 0
        self._done = 0

    def feed(self, line: str) -> BuildProgress | None:
        """What a line says about how far it is, if anything."""
        line = line.strip()
        if match := _RESOLVED.match(line):
            return BuildProgress(f"{match[1]} packages are needed", 0.1)
        if match := _DOWNLOADING.match(line):
            self._begun += 1
            return BuildProgress(f"downloading {match[1]} ({match[2]})")
        if match := _DOWNLOADED.match(line):
            self._done += 1
            return BuildProgress(
                f"downloaded {match[1]}, {self._done} of {max(self._begun, self._done)} large packages"
            )
        if match := _PREPARED.match(line):
            return BuildProgress(f"prepared {match[1]} packages", 0.7)
        if match := _INSTALLED.match(line):
            return BuildProgress(f"installed {match[1]} packages", 0.8)
        return None


def disk_is_full(tail: str) -> bool:
    """Whether uv failed because a disk is full."""
    return _DISK_FULL.search(tail) is not None


def failure(name: str, tail: str) -> str:
    """Why uv could not install `name`'s packages and what to do next: one sentence of at most 300 characters."""
    if match := _WRONG_HASH.search(tail):
        return sentence(
            f"hash mismatch for {match[1]}: the package index serves another file than the one that was locked, so "
            f"nothing of {name} was installed; look at the index that uv uses"
        )
    if _OFFLINE.search(tail):
        return sentence(
            f"{name}'s packages are not all in uv's cache, and uv was told to stay offline; turn the network on "
            "(the variable UV_OFFLINE), then load it again"
        )
    if _NO_MATCH.search(tail):
        last = last_line(tail)
        return sentence(f"the package index has no fitting wheels for {name} on this Python and platform: {last}")
    if _NO_NETWORK.search(tail):
        last, host = last_line(tail), _last_host(tail)
        where = f" from {host}" if host and host not in last else ""
        return sentence(
            f"{name}'s packages could not be downloaded{where} ({last}); check the network, proxy or index, then "
            "load it again"
        )
    return sentence(f"uv could not install {name}: {last_line(tail)}; waifu-llm.log has the rest")


def _last_host(text: str) -> str:
    """Where uv went last; "" where it names no address, or one that can't be told for sure from its password."""
    addresses = _ADDRESS.findall(text)
    found = place(addresses[-1].rstrip(_AROUND)) if addresses else None
    return found[0] if found else ""


def last_line(text: str) -> str:
    """The last line with anything on it, short enough to stand in a sentence."""
    lines = [line.strip().removeprefix("cause: ") for line in text.splitlines() if line.strip()]
    return lines[-1][:160] if lines else "it said nothing"


def sentence(text: str) -> str:
    """At most 300 characters on one line, for a client."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
