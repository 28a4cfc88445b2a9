"""Counters and histograms by provider since the module started. Pure; the pool and all sessions share one."""

from bisect import bisect_left
from collections import Counter
from typing import Final

from waifu_client.protocol import ErrorCode, Histogram, ProviderCounters

_BOUNDS_MS: Final = (5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 10e3, 30e3, 60e3, 120e3)


class _Provider:
    def __init__(self) -> None:
        self.requests: Counter[ErrorCode] = Counter()
        self.chunks = 0
        self.restarts = 0
        self.builds = 0
        self.queued = 0
        self.first_chunk = _no_counts()
        self.total = _no_counts()

    def snapshot(self) -> ProviderCounters:
        return ProviderCounters(
            requests={code.value: count for code, count in self.requests.items()},
            chunks=self.chunks,
            restarts=self.restarts,
            builds=self.builds,
            queued=self.queued,
            first_chunk_ms=Histogram(list(_BOUNDS_MS), list(self.first_chunk)),
            total_ms=Histogram(list(_BOUNDS_MS), list(self.total)),
        )


def _no_counts() -> list[int]:
    """A histogram's; the last one is of what lies above all bounds."""
    return [0] * (len(_BOUNDS_MS) + 1)


class Statistics:
    """What each provider has done. Providers are names of the catalog, never what a client made up."""

    def __init__(self) -> None:
        self._providers: dict[str, _Provider] = {}

    def finished(
        self, provider: str, code: ErrorCode, chunks: int, first_chunk_s: float | None, total_s: float
    ) -> None:
        """A generation ended with `code` after so many pieces of text; in seconds after its ack."""
        entry = self._of(provider)
        entry.requests[code] += 1
        entry.chunks += chunks
        entry.total[bisect_left(_BOUNDS_MS, total_s * 1e3)] += 1
        if first_chunk_s is not None:
            entry.first_chunk[bisect_left(_BOUNDS_MS, first_chunk_s * 1e3)] += 1

    def restarted(self, provider: str) -> None:
        """A worker was started again, after whatever ended it."""
        self._of(provider).restarts += 1

    def built(self, provider: str) -> None:
        """An environment was built."""
        self._of(provider).builds += 1

    def queued(self, provider: str) -> None:
        """A generation had to wait for a running place."""
        self._of(provider).queued += 1

    def counters(self) -> dict[str, ProviderCounters]:
        """A snapshot by provider, sorted by name."""
        return {name: entry.snapshot() for name, entry in sorted(self._providers.items())}

    def _of(self, provider: str) -> _Provider:
        entry = self._providers.get(provider)
        if entry is None:
            entry = self._providers[provider] = _Provider()
        return entry
