"""Growth records: kept as JSON, read as what a step was bound by, shown as panels and as a page that nobody edits."""

import re
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.growth_measure import between
from benchmarks.growth_page import markdown, number, page, spread
from benchmarks.growth_panels import plots
from benchmarks.growth_program import GROWTH, IMAGES, PAGE, TEMPLATE, text_of_page
from benchmarks.growth_record import GrowthRecord, Role, Sweep, bound, cpu_name
from benchmarks.measured import FULL, Side
from benchmarks.record import Record
from benchmarks.summary import Summary

FACTS = {"processor": "a processor", "cores": 2, "system": "Linux", "versions": {"python": "3.11"}}
MACHINE = {"processor": "a processor", "cores": 2, "others_cores": 0.3}


def growth() -> GrowthRecord:
    """Two rounds, some sizes of each sweep."""
    made = GrowthRecord(FACTS, rounds=2)
    for better in (1.0, 1.1):
        shares = {cpu_name(role): 0.4 for role in Role}
        for size in (10, 1):
            us = {f"product.us.{role}": 2.0 for role in Role}
            made.add(Sweep.STREAMS, size, {"product.chunks_per_s": 300_000 * better, **shares, **us})
            made.add(Sweep.WORKERS, size, {"product.chunks_per_s": 300_000.0, "workers_mb": 40.0 * size, **shares})
            made.add(Sweep.MODULES, size, {"product.chunks_per_s": 300_000.0, **shares})
            made.add(Sweep.PACED, size, {"product.late_p99_ms": 3.0, "product.us.module": 20.0, **shares})
            made.add(Sweep.PROMPTS, size * 1000, {"ack_ms": 0.2, "first_ms": 1.0, "cpu_ms.module": 0.5, **shares})
        made.add(Sweep.CONNECTIONS, 1, {"core_mb": 30.0, "answer_ms": 0.5})
        made.add(Sweep.CONNECTIONS, 1900, {"core_mb": 50.0, "connection_kb": 10.5, "answer_ms": 0.5})
    return made


def targets() -> Record:
    made = Record({"commit": "0123456789abcdef+changes", "machine": MACHINE}, FULL)
    made.add(0, Side.PRODUCT, {"throughput.1": 100_000, "latency.plain": 0.6, "latency.ack": 0.1}, Counter())
    made.add(0, Side.LIMIT, {"throughput.1": 120_000, "latency.plain": 0.3}, Counter())
    made.add(0, Side.RELAY, {"throughput.1": 400_000}, Counter())
    return made


def test_a_growth_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = growth()
    written.blame({"text": 2})
    written.write(tmp_path / "folder" / "growth.json")
    read = GrowthRecord.read(tmp_path / "folder" / "growth.json")
    assert (read.sweeps, read.bad, read.rounds, read.cores) == (written.sweeps, {"text": 2}, 2, 2)


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 0, "sweeps": {}}'])
def test_a_file_that_is_no_growth_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text, "utf-8")
    with pytest.raises(ValueError, match="no record of a growth run"):
        GrowthRecord.read(tmp_path / "other.json")


def test_rounds_of_a_step_stand_together_and_steps_in_the_order_of_their_sizes() -> None:
    steps = growth().sweeps[Sweep.STREAMS]
    assert [step.at for step in steps] == [1, 10]
    assert steps[0].spread("product.chunks_per_s") == Summary(315_000, 300_000, 330_000)
    assert steps[0].shares()[Role.CORE] == 0.4
    assert steps[0].shares("limit") == {}


@pytest.mark.parametrize(
    ("shares", "processes", "said"),
    [
        ({}, {}, ""),
        ({Role.WORKER: 0.95, Role.CORE: 0.5, Role.OTHERS: 0.1}, {}, "the core of the worker"),
        ({Role.WORKER: 0.7, Role.CORE: 0.5, Role.CLIENTS: 0.6}, {}, "the machine's cores"),
        ({Role.WORKER: 0.4, Role.OTHERS: 1.5}, {}, "the machine's cores"),
        ({Role.WORKER: 0.4, Role.CORE: 0.2, Role.OTHERS: 0.1}, {}, "no core is full"),
        ({Role.WORKER: 1.2, Role.CORE: 0.2}, {Role.WORKER: 2}, "no core is full"),
    ],
)
def test_what_a_step_is_bound_by_is_a_full_core_or_all_of_them(
    shares: dict[Role, float], processes: dict[Role, int], said: str
) -> None:
    assert bound(shares, 2, processes) == said


def test_cores_are_counted_between_the_first_and_the_last_sample_within_a_time() -> None:
    samples = [
        (at, {Role.CORE: core, Role.WORKER: worker})
        for at, core, worker in [(0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (1.0, 0.6, 0.5), (1.5, 0.9, 0.8), (2.5, 1.9, 1.8)]
    ]
    assert between(samples, 0.4, 1.6) == {Role.CORE: pytest.approx(0.4), Role.WORKER: pytest.approx(0.3)}
    assert between(samples, 0.6, 1.4) == {}


def test_every_sweep_that_was_measured_has_a_plot_with_lines_of_what_was_found() -> None:
    found = {plot.sweep: plot for plot in plots(growth())}
    assert set(found) == set(Sweep) - {Sweep.MODULES}
    chunks, cpu = found[Sweep.STREAMS].panels
    assert [line.label for line in chunks.lines] == ["waifu-llm"]
    assert set(chunks.lines[0].points) == {1, 10}
    assert "others" not in {line.label for line in cpu.lines}
    _, cores = found[Sweep.PACED].panels
    assert cores.level == ("the machine's 2 cores", 2.0)
    assert {line.label for line in cores.lines} == {*Role, "all of them"}
    assert cores.lines[-1].points[10].median == pytest.approx(0.4 * len(Role))
    assert list(plots(GrowthRecord(FACTS))) == []


def test_a_page_fills_in_every_name_of_its_template() -> None:
    text = page(TEMPLATE.read_text("utf-8"), growth(), targets())
    assert "[[" not in text
    assert "a processor, 2 cores, Linux; python 3.11; medians of 2 rounds; other programs used 0.40 of the" in text
    assert "| chunks, 1 stream | chunks/s | ≥ 240k, or 0.7 of the limit | 100k | 120k [1] | 0.83 | met |" in text
    assert "| 0.60 | 0.30 [1] | 2.00 | **not met** |" in text
    assert "| acknowledgement, p50 | ms |  | 0.10 |  |  |  |" in text
    assert "| 10 | 315k (300k-330k) | 2.00 | 2.00 | 2.00 | 2.00 | the machine's cores |" in text
    assert "| idle connection | 10.5 KB of the module |  |" in text
    assert "| chunk at a model's pace, module | 20.0 µs | 50k chunks/s |" in text
    assert "Commit 0123456789ab with changes, a processor with 2 cores;" in text
    assert "0 wrong answers; other programs used 0.3 of the cores meanwhile. Ratio" in text
    assert re.search(r"\| chunks, 1 stream \| relay: [^|]* \| 400k chunks/s \| 0.25 \|", text)


def test_what_was_not_measured_is_said_to_be_missing() -> None:
    text = page("[[targets]] [[streams]]\n[[costs]]", GrowthRecord(FACTS), None)
    assert "run.py` measures and prints them. Not measured.\n" in text
    with pytest.raises(KeyError):
        page("[[nothing]]", GrowthRecord(FACTS), None)


def test_numbers_have_three_digits_and_a_spread_only_where_there_is_one() -> None:
    assert [number(value) for value in (0.523, 12.34, 123.4, 9_999, 12_345, 45_000_000)] == [
        "0.52", "12.3", "123", "9999", "12k", "45M",
    ]  # fmt: skip
    assert spread(Summary(2.0, 1.0, 3.0)) == "2.00 (1.00-3.00)"
    assert spread(Summary(2.0, 2.0, 2.001)) == "2.00"
    assert markdown(("a", "b"), [("1", "")]) == "| a | b |\n| --- | --- |\n| 1 |  |"


def test_the_page_and_its_plots_are_what_the_records_say() -> None:
    record = GrowthRecord.read(GROWTH)
    assert PAGE.read_text("utf-8") == text_of_page(record)
    assert {file.name for file in IMAGES.glob("growth-*.svg")} == {plot.file for plot in plots(record)}
    assert not record.bad
