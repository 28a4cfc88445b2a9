"""Which tests show the rows about races and lifecycle, and the programmes that go with them."""

from typing import Final

_RACES: Final = "tests/faults/test_races.py::"
_LIFE: Final = "tests/faults/test_lifecycle.py::"
_MODEL: Final = "tests/faults/test_model.py::TestModuleModel::runTest"
_PROCESS: Final = "tests/supervision/test_process.py::"
_SERVE: Final = "tests/system/test_serve.py::"
_WORKER: Final = "tests/worker/test_runtime_process.py::"
_TWO_ENDS: Final = f"{_RACES}test_p6_r1_r2_of_two_ends_of_one_generation_one_is_told_once"
_STOPS: Final = f"{_LIFE}test_r9_r11_p23_a_stop_in_any_stage_tells_whoever_waits_and_leaves_nothing"
_KILLS: Final = f"{_LIFE}test_r10_p3_nothing_of_a_killed_module_lives_on_and_the_next_one_needs_no_help"
_TEN_SECONDS: Final = f"{_LIFE}test_p23_the_time_of_a_stop_is_within_ten_seconds"

ROWS: Final[dict[str, list[str]]] = {
    "R1": [_TWO_ENDS, _MODEL],
    "R2": [_TWO_ENDS],
    "R3": [
        f"{_RACES}test_r3_a_load_that_is_interrupted_in_any_stage_ends_once_and_another_is_served",
        f"{_RACES}test_r3_what_is_interrupted_while_it_waits_for_a_place_never_reaches_the_worker",
        f"{_RACES}test_r3_how_far_a_load_is_that_has_ended_already_is_told_nobody",
    ],
    "R4": [
        f"{_RACES}test_r4_a_cancel_names_its_request_and_one_that_comes_too_late_hits_nobody",
        f"{_WORKER}test_a_late_cancel_does_not_hit_the_next_request",
    ],
    "R5": [f"{_RACES}test_r5_after_a_switch_the_old_request_is_finished_by_the_old_worker_which_then_goes"],
    "R6": [
        _MODEL,
        f"{_RACES}test_r6_a_load_that_comes_while_an_unload_still_stops_the_worker_is_not_ended_by_it",
        f"{_RACES}test_r6_a_load_behind_an_unload_that_cut_a_start_short_begins_a_new_one",
    ],
    "R7": [
        f"{_RACES}test_r7_a_start_that_is_cut_short_at_any_step_leaves_no_process",
        f"{_PROCESS}test_a_spawn_cancelled_at_any_step_leaves_no_process",
    ],
    "R8": [
        f"{_PROCESS}test_a_command_whose_caller_is_cancelled_is_killed",
        f"{_PROCESS}test_a_spawn_cancelled_at_any_step_leaves_no_process",
    ],
    "R9": [
        _STOPS,
        f"{_LIFE}test_r9_a_close_ends_streams_and_an_install_at_once",
        f"{_LIFE}test_r9_what_does_not_stop_in_time_is_killed",
        f"{_LIFE}test_r9_a_stop_that_hangs_is_ended_by_its_last_resort",
    ],
    "R10": [
        _KILLS,
        f"{_PROCESS}test_nothing_outlives_a_core_that_is_killed",
        f"{_WORKER}test_a_worker_dies_with_its_parent_even_when_it_is_stopped",
    ],
    "R11": [
        _STOPS,
        f"{_LIFE}test_r11_a_module_whose_terminal_is_ignored_outlives_it",
        f"{_SERVE}test_a_second_ctrl_c_ends_it_now_and_leaves_nothing",
    ],
    "R12": [f"{_SERVE}test_a_port_in_use_is_one_clear_line_and_exit_1"],
    "S7": [
        f"{_LIFE}test_s7_the_module_and_what_it_starts_write_no_core_dumps",
        f"{_LIFE}test_s7_no_command_writes_core_dumps",
    ],
    "P3": [_KILLS],
    "P6": [_TWO_ENDS],
    "P7": [_MODEL],
    "P23": [_STOPS, _TEN_SECONDS],
}
