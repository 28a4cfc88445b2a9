"""Counters and histograms by provider."""

from waifu_client.protocol import ErrorCode
from waifu_llm.stats import Statistics


def test_nothing_done_is_nothing_counted() -> None:
    assert Statistics().counters() == {}


def test_what_providers_did_is_counted_by_provider_and_code() -> None:
    statistics = Statistics()
    statistics.finished("openai", ErrorCode.SUCCESS, 7, 0.004, 0.2)
    statistics.finished("openai", ErrorCode.SUCCESS, 1, 0.005, 1000.0)
    statistics.finished("openai", ErrorCode.TIMEOUT, 0, None, 60.0)
    statistics.restarted("echo")
    statistics.built("echo")
    statistics.built("echo")
    statistics.queued("echo")
    counters = statistics.counters()
    assert list(counters) == ["echo", "openai"]
    openai, echo = counters["openai"], counters["echo"]
    assert (openai.requests, openai.chunks) == ({"SUCCESS": 2, "TIMEOUT": 1}, 8)
    assert (echo.restarts, echo.builds, echo.queued, echo.requests) == (1, 2, 1, {})
    first, total = openai.first_chunk_ms, openai.total_ms
    assert len(first.counts) == len(first.bounds_ms) + 1
    assert (first.bounds_ms[0], first.counts[0], sum(first.counts)) == (5.0, 2, 2)
    assert dict(zip(total.bounds_ms, total.counts, strict=False))[250.0] == 1
    assert dict(zip(total.bounds_ms, total.counts, strict=False))[60e3] == 1
    assert (total.counts[-1], sum(total.counts)) == (1, 3)


def test_a_snapshot_does_not_change_afterwards() -> None:
    statistics = Statistics()
    statistics.finished("echo", ErrorCode.SUCCESS, 1, 0.1, 0.1)
    before = statistics.counters()["echo"]
    statistics.finished("echo", ErrorCode.SUCCESS, 1, 0.1, 0.1)
    assert before.requests == {"SUCCESS": 1}
    assert sum(before.total_ms.counts) == 1
