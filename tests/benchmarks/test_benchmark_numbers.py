"""The numbers of a benchmark: medians, percentiles, ratios, targets, and how a reader sees them."""

import math

import pytest
from benchmarks.figures import STREAMS, Figure, Target, figures, shown
from benchmarks.measured import FULL, SHORT
from benchmarks.summary import Summary, percentile, ratios, summarize


def test_a_summary_has_the_middle_and_both_ends() -> None:
    assert summarize([3.0, 1.0, 8.0]) == Summary(3.0, 1.0, 8.0)
    assert summarize([1.0, 2.0]) == Summary(1.5, 1.0, 2.0)


@pytest.mark.parametrize(
    ("other", "meets"),
    [(Summary(5, 4, 6), True), (Summary(2, 1, 3), True), (Summary(9, 8, 10), False), (Summary(0, 0, 0.5), False)],
)
def test_ranges_that_touch_may_differ_by_chance(other: Summary, meets: bool) -> None:
    one = Summary(3.5, 3, 4)
    assert (one.meets(other), other.meets(one)) == (meets, meets)


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (51.0, 100.0, 100.0)
    assert math.isnan(percentile([], 0.5))


def test_each_round_has_its_own_ratio_and_one_without_a_base_has_none() -> None:
    assert ratios([2.0, 6.0, 5.0], [4.0, 3.0, 0.0]) == [0.5, 2.0]


@pytest.mark.parametrize(
    ("figure", "value", "ratio", "met"),
    [
        (Figure("a", "", "ms", "", Target(0.5)), 0.5, 3.0, True),
        (Figure("a", "", "ms", "", Target(0.5)), 0.6, 0.1, False),
        (Figure("a", "", "chunks/s", "", Target(240_000, share=0.7), more_is_better=True), 250_000, 0.1, True),
        (Figure("a", "", "chunks/s", "", Target(240_000, share=0.7), more_is_better=True), 100_000, 0.7, True),
        (Figure("a", "", "chunks/s", "", Target(240_000, share=0.7), more_is_better=True), 100_000, 0.6, False),
        (Figure("a", "", "chunks/s", "", Target(240_000, share=0.7), more_is_better=True), 100_000, None, False),
        (Figure("a", "", "ms", ""), 1.0, 1.0, None),
    ],
)
def test_a_target_is_met_by_its_bound_or_its_share_of_the_limit(
    figure: Figure, value: float, ratio: float | None, met: bool | None
) -> None:
    assert figure.is_met(value, ratio) is met


def test_a_target_is_said_in_words() -> None:
    assert Figure("a", "", "ms", "").wanted == ""
    assert Figure("a", "", "ms", "", Target(0.5)).wanted == "<= 0.50"
    share = Figure("a", "", "chunks/s", "", Target(240_000, share=0.7), more_is_better=True)
    assert share.wanted == ">= 240k, or 0.7 of the limit"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (123_456, "chunks/s", "123k"),
        (9_999, "chunks/s", "9999"),
        (99.5, "%", "99.5"),
        (0.421, "ms", "0.42"),
        (42.26, "MB", "42.3"),
        (1234.5, "ms", "1234"),
    ],
)
def test_a_value_is_shown_with_as_many_digits_as_mean_something(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


@pytest.mark.parametrize("sizes", [FULL, SHORT])
def test_every_figure_of_the_targets_is_there_under_a_name_of_its_own(sizes: object) -> None:
    found = figures(FULL if sizes is FULL else SHORT)
    names = [figure.name for figure in found]
    assert len(set(names)) == len(names)
    judged = {figure.name for figure in found if figure.target is not None}
    assert judged == {
        *(f"throughput.{streams}" for streams in STREAMS),
        "cpu.core", "latency.first_chunk", "latency.plain", "hop.0.p50", "hop.0.p99", "hop.1.p50", "hop.1.p99",
        "crowd.delivered", "crowd.late_p99", "crowd.growth", "start.listening", "load.cold", "load.warm",
        "load.prewarmed", "load.first",
        "memory.core", "memory.worker", "memory.connection",
    }  # fmt: skip
