"""A growth run as it is run: the short form measures every sweep and finds every answer right."""

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.children import program
from benchmarks.growth_measure import SHORT
from benchmarks.growth_record import GrowthRecord, Role, Sweep
from support.waiting import WAIT_S

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the benchmarks need POSIX")


@pytest.mark.timeout(300)
def test_the_short_form_measures_every_sweep_and_finds_every_answer_right(tmp_path: Path) -> None:
    file = tmp_path / "growth.json"
    argv, env = program("benchmarks.growth_program", "--short", "--json", str(file))
    done = subprocess.run(argv, env=env, capture_output=True, encoding="utf-8", timeout=10 * WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert "bad: 0" in done.stdout
    record = GrowthRecord.read(file)
    sizes = {sweep: tuple(step.at for step in record.sweeps[sweep]) for sweep in Sweep}
    assert sizes == {sweep: getattr(SHORT, sweep) for sweep in Sweep}
    for sweep in (Sweep.STREAMS, Sweep.WORKERS, Sweep.MODULES, Sweep.PROMPTS):
        assert set(record.sweeps[sweep][-1].shares()) == set(Role)


def test_a_wrong_argument_of_a_growth_run_is_refused_before_anything_is_started() -> None:
    argv, env = program("benchmarks.growth_program", "--rounds", "x")
    done = subprocess.run(argv, env=env, capture_output=True, encoding="utf-8", timeout=WAIT_S, check=False)
    assert done.returncode == 2
    assert "usage: growth.py" in done.stderr
