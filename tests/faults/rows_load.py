"""Which tests show the programmes of load, chaos, fuzz and resources."""

from typing import Final

_RESOURCES: Final = "tests/faults/test_resources.py::test_p15_"
_CHAOS: Final = "tests/chaos/test_chaos_short.py::test_"
_FUZZ: Final = "tests/fuzz/test_fuzz.py::test_"

ROWS: Final[dict[str, list[str]]] = {
    "P3": [f"{_CHAOS}no_descendant_and_nothing_half_built_stays_behind_a_killed_core"],
    "P8": [f"{_FUZZ}every_seed_is_borne", f"{_FUZZ}new_inputs_are_borne"],
    "P12": ["tests/load/test_load_short.py::test_everyone_is_answered_once_whatever_the_others_do"],
    "P13": ["tests/load/test_load_short.py::test_everyone_is_answered_once_whatever_the_others_do"],
    "P15": [
        f"{_RESOURCES}a_full_disk_fails_the_install_says_so_and_the_next_one_succeeds",
        f"{_RESOURCES}without_a_file_to_be_had_who_is_connected_is_served_and_a_load_is_told_why",
        f"{_RESOURCES}a_worker_that_gets_no_memory_ends_that_request_and_serves_the_next",
        f"{_RESOURCES}a_home_that_nobody_can_write_is_one_line_and_exit_code_1",
        f"{_RESOURCES}a_clock_that_jumps_by_a_month_ends_nothing",
        f"{_RESOURCES}without_a_network_what_is_installed_works_and_the_rest_says_at_once_what_is_missing",
        f"{_RESOURCES}when_whoever_read_stderr_is_gone_the_module_goes_on",
    ],
    "P16": [f"{_CHAOS}everything_goes_wrong_at_once_and_no_promise_is_broken"],
    "P21": ["tests/test_rules.py::test_no_line_of_ours_breaks_the_rule"],
    "R14": [f"{_RESOURCES}without_a_file_to_be_had_who_is_connected_is_served_and_a_load_is_told_why"],
    "S15": ["tests/test_rules.py::test_no_line_of_ours_breaks_the_rule"],
}
