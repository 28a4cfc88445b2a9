"""What reads bytes that somebody else has written: every seed, and some seconds of new inputs."""

import pytest
from support.fuzz.engine import SEEDS, Target, attempt, keep, run
from support.fuzz.run import TARGETS

SECONDS = 1.2


@pytest.fixture(params=TARGETS.values(), ids=lambda target: target.name)
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
    result = run(target, SECONDS)
    if result.crash is not None:
        data, error = result.crash
        error.add_note(f"{data!r} is kept as {keep(target, data)}")
        raise error
    assert result.runs > 0


def test_there_are_seeds_of_targets_only() -> None:
    assert {folder.name for folder in SEEDS.iterdir()} == set(TARGETS)
