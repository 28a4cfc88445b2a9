"""Records of benchmarks: kept as JSON, shown as a table, compared with each other."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.comparison import comparison, verdict
from benchmarks.figures import Figure
from benchmarks.measured import FULL, SHORT, Measured, Side, Sizes
from benchmarks.record import NotARecord, Record
from benchmarks.summary import summarize
from benchmarks.table import aligned, table
from support.waiting import WAIT_S

ROOT = Path(__file__).resolve().parents[2]


def record(*chunks_per_s: float, limit: float = 200_000, sizes: Sizes = FULL) -> Record:
    """Rounds in which the product had those throughputs with one stream."""
    made = Record({"when": "now", "machine": {"cores": 2}}, sizes)
    for number, value in enumerate(chunks_per_s):
        made.add(number, Side.PRODUCT, {"throughput.1": value}, Counter())
        made.add(number, Side.LIMIT, {"throughput.1": limit}, Counter())
    return made


def row(lines: list[str], title: str) -> str:
    return next(line for line in lines if line.startswith(title))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = record(100_000, 110_000, sizes=SHORT)
    written.add(1, Side.PRODUCT, {"latency.ack": 0.1}, Counter(text=2))
    written.write(tmp_path / "folder" / "record.json")
    read = Record.read(tmp_path / "folder" / "record.json")
    assert (read.facts, read.sizes, read.rounds) == (written.facts, written.sizes, written.rounds)
    assert (read.faults[Side.PRODUCT], read.bad) == (Counter(text=2), 2)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "sizes": {}}'])
def test_what_is_no_record_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text, "utf-8")
    with pytest.raises(NotARecord, match=r"other\.json"):
        Record.read(file)


def test_figures_are_paired_with_those_of_their_own_round() -> None:
    made = record(100, 200)
    made.add(2, Side.PRODUCT, {"throughput.1": 300}, Counter())
    assert made.values("throughput.1", Side.PRODUCT) == [100, 200, 300]
    assert made.pairs("throughput.1", Side.PRODUCT, Side.LIMIT) == ([100, 200], [200_000, 200_000])


def test_measurements_of_one_side_add_up() -> None:
    found = Measured({"a": 1.0}, Counter(text=1)) + Measured({"b": 2.0}, Counter(text=1, stray=1))
    assert (found.values, found.faults) == ({"a": 1.0, "b": 2.0}, Counter(text=2, stray=1))


def test_the_table_has_medians_with_both_ends_the_limit_the_ratio_and_whether_the_target_is_met() -> None:
    lines = table(record(100_000, 150_000, 160_000))
    assert row(lines, "chunks, 1 stream").split() == (
        "chunks, 1 stream chunks/s 150k (100k-160k) 200k (200k-200k) [1] 0.75 >= 240k, or 0.7 of the limit met".split()
    )
    assert "bad: 0" in lines[-1]


def test_a_target_that_is_missed_is_said_loudly_and_in_the_short_form_nothing_is_said() -> None:
    assert row(table(record(100_000)), "chunks, 1").endswith("NOT MET")
    assert row(table(record(100_000, sizes=SHORT)), "chunks, 1").endswith("of the limit")


def test_a_part_of_the_limit_has_a_line_of_its_own_and_a_figure_without_a_limit_no_ratio() -> None:
    made = record(100_000)
    made.add(0, Side.READER, {"throughput.1": 400_000}, Counter())
    made.add(0, Side.PRODUCT, {"cpu.core": 1.0}, Counter())
    lines = table(made)
    assert row(lines, "  of it: reader").split()[4:] == ["400k", "(400k-400k)", "[2]", "0.25"]
    assert row(lines, "CPU of the core").split()[-4:] == ["1.00", "(1.00-1.00)", "<=", "1.50"] or "met" in lines[3]


def test_what_was_wrong_is_counted_by_side_and_kind() -> None:
    made = record(100_000)
    made.add(0, Side.PRODUCT, {}, Counter(text=2, stray=1))
    assert made.bad == 3
    assert "wrong (product): 1 x stray, 2 x text" in table(made)


def test_columns_are_as_wide_as_they_have_to_be() -> None:
    assert aligned([("a", "b", ""), ("long", "c", "x")]) == ["a     b", "long  c  x"]


LESS = Figure("a", "a", "ms", "")
MORE = Figure("a", "a", "chunks/s", "", more_is_better=True)


@pytest.mark.parametrize(
    ("figure", "before", "after", "said"),
    [
        (LESS, [1.0, 1.2], [1.1, 1.5], "within noise"),
        (LESS, [1.0, 1.2], [0.5, 0.6], "better"),
        (LESS, [1.0, 1.2], [1.3, 1.4], "worse"),
        (MORE, [1.0, 1.2], [1.3, 1.4], "better"),
        (MORE, [1.0, 1.2], [0.5, 0.6], "worse"),
    ],
)
def test_a_change_counts_where_the_rounds_have_nothing_in_common(
    figure: Figure, before: list[float], after: list[float], said: str
) -> None:
    assert verdict(figure, summarize(before), summarize(after)) == said


def test_a_faster_machine_is_no_improvement_where_the_limit_went_up_as_well() -> None:
    lines = comparison(record(100_000, 110_000), record(200_000, 220_000, limit=400_000))
    assert "2.00" in row(lines, "chunks, 1 stream")
    assert row(lines, "chunks, 1 stream").endswith("within noise")


def test_figures_without_a_limit_are_compared_as_they_are() -> None:
    made = [Record({}, FULL), Record({}, FULL)]
    for one, value in zip(made, (1.0, 2.0), strict=True):
        one.add(0, Side.PRODUCT, {"cpu.core": value}, Counter())
    assert row(comparison(*made), "CPU of the core").endswith("worse")


def test_a_comparison_warns_of_other_sizes_and_of_wrong_answers() -> None:
    wrong = record(1, sizes=SHORT)
    wrong.add(0, Side.PRODUCT, {}, Counter(text=3))
    lines = comparison(record(1), wrong)
    assert any("different sizes" in line for line in lines)
    assert "B has 3 wrong answers: its figures mean nothing" in lines


def compare(*files: Path) -> "subprocess.CompletedProcess[str]":
    """The command; as isolated from the project's packages as a Python without any is."""
    argv = [sys.executable, "-S", str(ROOT / "benchmarks" / "compare.py"), *map(str, files)]
    return subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=WAIT_S, check=False)


def test_the_command_compares_two_files_with_nothing_but_python(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, value in zip(files, (100_000, 150_000), strict=True):
        record(value).write(file)
    done = compare(*files)
    assert (done.returncode, done.stderr) == (0, "")
    assert row(done.stdout.splitlines(), "chunks, 1 stream").endswith("better")


def test_the_command_says_which_file_is_no_record(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    record(1).write(file)
    (tmp_path / "b.json").write_text("{}", "utf-8")
    done = compare(file, tmp_path / "b.json")
    assert done.returncode == 2
    assert done.stderr.startswith(str(tmp_path / "b.json"))
