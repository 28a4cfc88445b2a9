"""Which tests show the rows about workers, their processes and pipes, clocks and a loop that is held up."""

from typing import Final

_KILLS: Final = "tests/faults/worker/test_worker_kills.py::"
_ROWS: Final = "tests/faults/worker/test_worker_rows.py::"
_PIPES: Final = "tests/faults/worker/test_worker_pipes.py::"
_LIMITS: Final = "tests/faults/worker/test_local_limits.py::"
_DESCENDANTS: Final = "tests/faults/worker/test_descendants.py::"
_WATCHDOG: Final = "tests/faults/test_watchdog.py::"
_REAL: Final = "tests/system/test_real_workers.py::"
_LOADS: Final = "tests/supervision/test_pool_loads.py::"
_GENERATIONS: Final = "tests/supervision/test_pool_generations.py::"
_PROCESS: Final = "tests/supervision/test_process.py::"
_WORKER: Final = "tests/worker/test_runtime_process.py::"
_FRAMING: Final = "tests/worker/test_framing.py::"

ROWS: Final[dict[str, list[str]]] = {
    "W1": [
        f"{_KILLS}test_w1_killed_after_some_chunks_it_loses_none_and_the_next_request_starts_it_again",
        f"{_GENERATIONS}test_a_crash_ends_each_request_once_and_keeps_what_was_sent",
        f"{_REAL}test_a_crash_ends_the_requests_of_all_clients_of_that_worker_and_of_no_other",
    ],
    "W2": [
        f"{_ROWS}test_w2_five_deaths_within_180_s_without_a_word_and_it_stays_down_until_the_next_load",
        f"{_ROWS}test_w2_five_deaths_in_more_than_180_s_are_no_loop",
        f"{_GENERATIONS}test_a_worker_that_delivers_and_dies_is_started_again_without_counting",
    ],
    "W3": [
        f"{_ROWS}test_w3_a_request_that_hangs_ends_at_its_time_and_the_worker_2_s_later",
        f"{_ROWS}test_w3_a_chunk_starts_the_time_of_a_stream_again",
        f"{_REAL}test_a_worker_that_ignores_a_cancel_is_killed_and_the_interrupted_client_does_not_wait",
    ],
    "W4": [
        f"{_ROWS}test_w4_a_silent_worker_is_killed_after_30_s_and_the_request_ends",
        f"{_ROWS}test_w4_while_a_load_runs_on_it_silence_means_nothing_and_a_timeout_ends_the_rest",
        f"{_REAL}test_a_worker_that_is_frozen_is_killed_and_the_next_request_works",
    ],
    "W5": [
        f"{_ROWS}test_w5_so_many_bad_lines_in_so_short_a_time_end_a_worker_and_others_disturb_no_request",
        f"{_ROWS}test_w5_a_bad_line_is_logged_cut_and_without_keys",
        f"{_REAL}test_rubbish_on_its_pipes_changes_no_text_and_no_count_of_ends",
    ],
    "W6": [
        f"{_WORKER}test_every_way_of_printing_misses_the_wire_at_import_in_a_thread_and_in_a_child",
        f"{_REAL}test_rubbish_on_its_pipes_changes_no_text_and_no_count_of_ends",
    ],
    "W7": [
        f"{_KILLS}test_w7_a_frame_that_is_cut_at_any_byte_is_dropped_with_its_worker",
        f"{_FRAMING}test_a_frame_cut_at_every_byte_is_whole_again",
        f"{_REAL}test_a_worker_that_dies_ends_its_request_and_serves_the_next",
    ],
    "W8": [
        f"{_PIPES}test_w8_a_line_is_read_up_to_its_limit_and_over_it_ends_the_worker",
        f"{_PIPES}test_w8_a_line_without_an_end_costs_less_than_twice_the_limit",
        f"{_REAL}test_a_line_without_an_end_kills_the_worker",
    ],
    "W9": [
        f"{_FRAMING}test_bad_utf8_is_a_decode_error_and_nothing_else",
        f"{_FRAMING}test_lone_surrogates_are_replaced_and_pairs_joined",
        f"{_REAL}test_rubbish_on_its_pipes_changes_no_text_and_no_count_of_ends",
    ],
    "W10": [f"{_PIPES}test_w10_a_flood_on_stderr_costs_its_neighbours_nothing_and_little_memory"],
    "W11": [
        f"{_PIPES}test_w11_a_worker_that_does_not_read_is_busy_and_others_are_served",
        f"{_GENERATIONS}test_a_worker_that_does_not_read_gets_no_more",
    ],
    "W12": [f"{_PIPES}test_w12_both_pipes_may_be_full_and_all_requests_complete"],
    "W13": [
        f"{_PIPES}test_w13_a_client_closes_the_module_though_its_worker_ignores_everything",
        f"{_PIPES}test_w13_the_steps_are_end_of_input_term_and_kill_each_with_its_time",
        f"{_PROCESS}test_a_child_that_ignores_the_end_of_input_and_term_is_killed",
    ],
    "W14": [
        f"{_DESCENDANTS}test_w14_what_a_worker_started_ends_with_it",
        f"{_DESCENDANTS}test_w14_what_a_living_worker_keeps_in_the_background_outlives_another_worker",
        f"{_DESCENDANTS}test_w14_an_orphan_that_starts_others_as_it_is_killed_leaves_none",
        f"{_DESCENDANTS}test_w14_a_descendant_that_cannot_be_killed_at_once_holds_nobody_up",
        f"{_DESCENDANTS}test_w14_without_the_kernels_lists_of_children_all_processes_are_looked_at",
        f"{_DESCENDANTS}test_i3_an_adopted_one_that_ends_by_itself_is_taken_away_at_once_while_its_worker_lives",
        f"{_DESCENDANTS}test_w14_where_no_signals_are_heard_generation_after_generation_ends_all_the_same",
        f"{_DESCENDANTS}test_i3_where_another_hears_of_ended_children_who_was_adopted_is_no_zombie_for_long",
    ],
    "W15": [
        f"{_PROCESS}test_a_grandchild_that_holds_the_pipes_does_not_hide_the_end_and_ends_with_its_parent",
        f"{_REAL}test_children_of_a_worker_end_with_it",
    ],
    "W16": [
        f"{_REAL}test_a_worker_that_cannot_start_fails_the_load_with_the_reason",
        f"{_LOADS}test_a_worker_that_ends_before_ready_fails_the_load_with_its_last_words",
    ],
    "W17": [
        f"{_ROWS}test_w17_a_load_ends_at_its_own_time_while_the_start_goes_on_for_who_still_waits",
        f"{_ROWS}test_w17_a_start_without_an_end_is_given_up_after_its_time",
    ],
    "W18": [
        f"{_LIMITS}test_w18_a_worker_over_its_limit_ends_with_out_of_memory_and_others_go_on",
        f"{_LIMITS}test_w18_one_that_is_too_heavy_before_it_is_ready_fails_its_load",
        f"{_LIMITS}test_w18_one_that_grows_again_and_again_is_given_up_until_the_next_load",
        f"{_LIMITS}test_w18_where_the_machine_runs_out_the_heaviest_worker_is_ended_alone",
        f"{_LIMITS}test_w18_a_real_worker_that_eats_memory_is_ended_with_its_children_and_serves_again",
        f"{_LIMITS}test_w18_memory_that_the_worker_itself_cannot_get_ends_one_request_only",
        f"{_LIMITS}test_w18_one_that_the_system_killed_is_said_to_be",
    ],
    "W19": [f"{_ROWS}test_w19_answers_to_unknown_finished_and_foreign_requests_are_dropped_told_once_and_counted"],
    "W20": [
        f"{_ROWS}test_w20_of_two_ends_the_first_counts_and_what_comes_after_it_is_not_heard",
        f"{_PIPES}test_w20_what_a_real_worker_says_too_much_is_not_heard",
    ],
    "W21": [f"{_ROWS}test_w21_what_a_process_that_was_replaced_still_says_is_nobodys"],
    "W22": [
        f"{_LOADS}test_a_worker_with_a_wrong_greeting_is_refused_and_killed",
        f"{_REAL}test_a_worker_that_cannot_start_fails_the_load_with_the_reason",
    ],
    "W23": [
        f"{_PIPES}test_w23_a_worker_killed_between_its_start_and_its_first_line_fails_the_load_with_one_line",
        f"{_PIPES}test_w23_a_worker_that_closes_its_input_and_stays_is_ended_with_one_line",
        f"{_LOADS}test_a_worker_that_dies_right_after_its_greeting_fails_the_load",
    ],
    "R7": [
        f"{_DESCENDANTS}test_r7_a_guardian_that_does_not_come_up_fails_the_spawn_and_the_next_one_tries_again",
        f"{_DESCENDANTS}test_r7_a_core_that_ends_while_its_guardian_comes_up_leaves_none",
    ],
    "R10": [
        f"{_DESCENDANTS}"
        "test_r10_a_descendant_without_variables_in_its_own_session_does_not_outlive_a_core_that_is_killed",
        f"{_PROCESS}test_nothing_outlives_a_core_that_is_killed",
        f"{_WORKER}test_a_worker_dies_with_its_parent_even_when_it_is_stopped",
    ],
    "R13": [
        f"{_ROWS}test_r13_after_a_jump_of_the_clock_workers_and_requests_live_on",
        f"{_ROWS}test_r13_a_cancel_that_a_sleeping_machine_held_up_kills_nobody",
        f"{_ROWS}test_r13_a_start_that_a_sleeping_machine_held_up_is_waited_for_once_more",
        f"{_ROWS}test_r13_the_time_of_day_moves_nothing",
    ],
    "R16": [f"{_ROWS}test_r16_an_error_of_ours_with_one_message_loses_none_of_those_behind_it"],
    "R17": [
        f"{_WATCHDOG}test_r17_a_loop_that_is_held_up_is_told_with_the_functions_and_no_values",
        f"{_WATCHDOG}test_r17_a_process_that_stood_still_as_a_whole_is_not_told",
        f"{_WATCHDOG}test_r17_what_happens_again_and_again_is_told_once_and_counted",
        f"{_LIMITS}test_r17_workers_are_weighed_in_a_thread_and_nobody_waits_for_it",
    ],
    "P2": [f"{_KILLS}test_p2_a_worker_killed_at_a_random_byte_ends_its_request_once_and_the_next_one_is_served"],
}
