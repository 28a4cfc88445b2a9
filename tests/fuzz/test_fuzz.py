"""What reads bytes that somebody else has written: every seed, and some seconds of new inputs."""

from pathlib import Path

import pytest
from support.audited import run_audited
from support.fuzz.engine import SEEDS, Target, attempt, keep, run
from support.fuzz.run import TARGETS

SECONDS = 1.2
# What strangers send reaches these.
EXPOSED = {"client_messages", "worker_lines", "doors", "names", "redactor"}
EXPOSED_SECONDS = 15.0


def _marked(target: Target) -> pytest.ParameterSet:
    return pytest.param(target, id=target.name, marks=[pytest.mark.audited] if target.is_audited else [])


@pytest.fixture(params=[_marked(target) for target in TARGETS.values()])
def target(request: pytest.FixtureRequest) -> Target:
    found: Target = request.param
    return found


def test_every_seed_is_borne(target: Target) -> None:
    for name, data in target.seeds.items():
        try:
            attempt(target, data)
        except BaseException as error:
            error.add_note(f"seed {name}")
            raise


def test_new_inputs_are_borne(target: Target) -> None:
    result = run(target, EXPOSED_SECONDS if target.name in EXPOSED else SECONDS)
    if result.crash is not None:
        data, error = result.crash
        error.add_note(f"{data!r} is kept as {keep(target, data)}")
        raise error
    assert result.runs > 0


def test_there_are_seeds_of_targets_only() -> None:
    assert TARGETS.keys() >= EXPOSED
    assert {folder.name for folder in SEEDS.iterdir()} == set(TARGETS)


def test_what_listens_to_what_is_opened_is_run_by_itself(tmp_path: Path) -> None:
    run_audited(tmp_path, __file__)
