"""Who is too heavy."""

import pytest

from waifu_llm.supervision.weight import MIB, floor, too_heavy

GIB = 1024 * MIB
PLENTY = 8 * GIB


def test_without_a_limit_nobody_is_too_heavy() -> None:
    assert too_heavy({"a": 100 * GIB}, 0, 16 * GIB, 0) == {}


def test_all_over_the_limit_are_and_nobody_else() -> None:
    weights = {"at": 100 * MIB, "over": 100 * MIB + 1, "far over": GIB, "light": MIB}
    found = too_heavy(weights, 100 * MIB, 16 * GIB, PLENTY)
    assert found == {
        "over": "it used 100 MiB of memory, over its limit of 100 MiB (workers.memory_mb)",
        "far over": "it used 1024 MiB of memory, over its limit of 100 MiB (workers.memory_mb)",
    }


def test_where_the_machine_runs_out_the_heaviest_is_if_its_end_helps() -> None:
    total, limit = 16 * GIB, 10 * GIB
    least = floor(total)
    weights = {"light": MIB, "heavy": 2 * GIB, "heavier": 3 * GIB}
    assert too_heavy(weights, limit, total, least) == {}
    assert too_heavy(weights, limit, total, least - 1) == {
        "heavier": "the machine had 511 MiB of memory left and it used the most of all workers, 3072 MiB"
    }
    assert too_heavy({"light": least - 1}, limit, total, 0) == {}
    assert list(too_heavy({"just": least}, limit, total, 0)) == ["just"]
    assert too_heavy({}, limit, total, 0) == {}


def test_one_over_its_limit_goes_before_the_heaviest() -> None:
    assert list(too_heavy({"over": 2 * GIB, "under": GIB}, int(1.5 * GIB), 16 * GIB, 0)) == ["over"]


@pytest.mark.parametrize(
    ("total", "least"), [(GIB, 128 * MIB), (4 * GIB, 128 * MIB), (8 * GIB, 256 * MIB), (512 * GIB, GIB)]
)
def test_the_floor_is_a_part_of_the_machine_within_bounds(total: int, least: int) -> None:
    assert floor(total) == least
