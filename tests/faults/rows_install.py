"""Which tests show the rows of installs, the supply chain and names."""

from typing import Final

_E: Final = "tests/environment/"
_I: Final = "tests/faults/install/"
_KILLED: Final = f"{_E}test_store_killed.py::"
_FAULTS: Final = f"{_E}test_store_faults.py::"
_BUILDS: Final = f"{_E}test_store_builds.py::"
_INDEX: Final = f"{_E}test_store_index.py::"
_UV: Final = f"{_E}test_uv_commands.py::"
_REMOVAL: Final = f"{_E}test_store_removal.py::"
_LOCK: Final = f"{_E}test_lock_script.py::"
_ROWS: Final = f"{_I}test_install_rows.py::"
_STOPS: Final = f"{_I}test_stops_and_crowds.py::"
_HOME: Final = f"{_I}test_folders_of_a_home.py::"
_SUPPLY: Final = f"{_I}test_supply_chain.py::"
_MODULE: Final = f"{_I}test_installs_of_the_module.py::"
_NAMES: Final = f"{_I}test_names.py::"

_P19: Final = [
    f"{_NAMES}test_p19_there_are_400_of_them",
    f"{_NAMES}test_s12_p19_looking_a_name_up_opens_nothing",
    f"{_NAMES}test_s12_p19_a_client_gets_nowhere_with_a_name",
    f"{_NAMES}test_s12_p19_a_command_gets_nowhere_with_a_name",
]

ROWS: Final[dict[str, list[str]]] = {
    "E1": [
        f"{_KILLED}test_a_kill_at_any_moment_leaves_nothing_that_must_be_repaired",
        f"{_KILLED}test_a_kill_of_the_program_that_installs_is_a_failure_and_no_half_environment",
        f"{_ROWS}test_e1_p4_a_kill_of_uv_at_any_moment_leaves_nothing_that_must_be_repaired",
        f"{_HOME}test_e1_what_a_dead_module_left_is_swept_at_the_start_of_the_next_in_the_background",
        f"{_HOME}test_e1_a_sweep_at_the_start_leaves_what_another_module_is_building",
        f"{_HOME}test_e1_a_sweep_follows_no_link",
        f"{_HOME}test_e1_leftovers_that_cannot_be_looked_at_stop_no_start",
    ],
    "E2": [
        f"{_BUILDS}test_however_many_ask_one_build_serves_them_all",
        f"{_MODULE}test_e2_two_clients_that_load_one_provider_wait_for_one_install",
    ],
    "E3": [
        f"{_KILLED}test_two_modules_with_eight_clients_each_build_it_once",
        f"{_KILLED}test_one_module_is_killed_while_another_waits_for_its_install",
        f"{_STOPS}test_e3_p5_two_modules_with_eight_clients_each_install_once_in_whatever_order",
    ],
    "E4": [
        f"{_BUILDS}test_different_environments_do_not_wait_for_each_other",
        f"{_STOPS}test_e4_five_providers_are_installed_at_once_and_one_that_hangs_delays_none",
    ],
    "E5": [
        f"{_FAULTS}test_an_environment_whose_python_is_gone_is_broken_and_built_again",
        f"{_FAULTS}test_an_interpreter_that_changed_and_does_not_run_means_a_new_build",
        f"{_FAULTS}test_an_interpreter_that_cannot_be_probed_means_a_new_build",
        f"{_FAULTS}test_an_interpreter_that_changed_and_runs_is_kept",
        f"{_E}test_stamp.py::test_a_stamp_of_another_basis_says_what_differs",
    ],
    "E6": [
        f"{_ROWS}test_e6_a_disk_that_is_full_is_said_as_such_and_the_environments_that_are_there_stay",
        f"{_FAULTS}test_a_full_disk_is_said_as_such_with_the_bytes_needed",
        f"{_FAULTS}test_what_cannot_fit_is_refused_before_anything_is_run",
    ],
    "E7": [
        f"{_INDEX}test_the_index_is_asked_once_and_never_again_once_the_cache_has_it_all",
        f"{_INDEX}test_an_index_that_fails_is_a_clear_failure_and_the_next_load_succeeds",
        f"{_INDEX}test_an_index_that_nobody_answers_for_is_a_clear_failure",
        f"{_INDEX}test_a_wheel_that_another_file_took_the_place_of_is_refused",
    ],
    "E8": [
        f"{_ROWS}test_e8_a_uv_that_crashes_or_hangs_or_is_none_is_a_clear_failure",
        f"{_HOME}test_e8_a_start_without_uv_says_so_in_the_log",
        f"{_FAULTS}test_a_uv_that_is_unfit_is_named",
    ],
    "E9": [
        f"{_ROWS}test_e9_a_python_that_is_gone_is_never_downloaded",
        f"{_ROWS}test_e9_without_any_network_what_uv_has_in_its_cache_is_installed_and_the_rest_fails_at_once",
    ],
    "E10": [
        f"{_ROWS}test_e10_a_disk_that_cannot_be_written_is_said_as_such",
        f"{_ROWS}test_e10_a_path_of_240_characters_and_one_of_strange_ones_will_do",
        f"{_FAULTS}test_a_home_that_cannot_be_written_is_named",
        f"{_BUILDS}test_any_path_will_do",
    ],
    "E11": [
        f"{_MODULE}test_e11_c12_a_client_that_leaves_an_install_leaves_it_running_for_the_next_one",
        f"{_MODULE}test_e11_a_stop_ends_uv_and_removes_what_it_began",
        f"{_STOPS}test_e11_r9_a_stop_does_not_wait_for_a_disk_that_is_slow_to_keep_a_file",
        f"{_STOPS}test_e11_r9_a_stop_at_the_rename_leaves_a_whole_environment_or_none",
        f"{_STOPS}test_e11_r9_a_stop_leaves_what_takes_long_to_remove_to_the_next_start",
    ],
    "E12": [
        f"{_SUPPLY}test_e12_s9_what_would_run_at_every_start_of_python_is_refused_and_never_runs",
        f"{_SUPPLY}test_e12_the_pth_of_setuptools_passes_with_setuptools_alone",
        f"{_SUPPLY}test_e12_another_content_of_that_pth_is_refused_whoever_brings_it",
        f"{_SUPPLY}test_e12_python_is_looked_at_before_a_second_step_asks_it",
        f"{_SUPPLY}test_e12_a_release_that_was_yanked_after_it_was_locked_is_still_the_locked_one",
        f"{_LOCK}test_a_yanked_release_is_not_locked",
        f"{_FAULTS}test_a_tampered_wheel_is_refused",
        f"{_FAULTS}test_a_pin_without_a_hash_is_refused",
    ],
    "E13": [
        f"{_STOPS}test_e13_what_was_removed_from_an_environment_is_found_by_the_next_load",
        f"{_STOPS}test_e13_another_module_finds_it_as_well_and_a_stop_meanwhile_is_a_stop",
        f"{_MODULE}test_e13_an_environment_that_is_removed_under_a_stream_is_built_again_by_the_next_load",
    ],
    "S9": [
        f"{_SUPPLY}test_e12_s9_what_would_run_at_every_start_of_python_is_refused_and_never_runs",
        f"{_SUPPLY}test_s9_every_lock_has_a_hash_for_every_package_and_no_address",
        f"{_SUPPLY}test_s9_torch_alone_has_no_hash",
        f"{_FAULTS}test_a_tampered_wheel_is_refused",
        f"{_FAULTS}test_a_source_distribution_is_refused_since_it_would_run_its_own_code",
        f"{_UV}test_the_sync_checks_hashes_and_takes_wheels_from_one_index_only",
        f"{_LOCK}test_a_lock_has_hashes_and_no_address_and_nothing_younger_than_the_cooling_off",
        f"{_LOCK}test_a_file_that_was_added_to_a_locked_release_or_taken_from_it_is_told",
    ],
    "S10": [
        f"{_SUPPLY}test_s10_the_first_index_that_knows_a_name_answers_for_it",
        f"{_INDEX}test_the_configured_index_is_the_only_one",
    ],
    "S11": [f"{_SUPPLY}test_s11_a_uv_with_known_holes_is_refused_before_it_does_anything"],
    "S12": [*_P19, f"{_REMOVAL}test_no_name_reaches_outside_of_the_home"],
    "S13": [
        f"{_HOME}test_s13_a_link_in_the_place_of_a_folder_is_never_installed_into",
        f"{_HOME}test_s13_a_link_in_the_place_of_an_environment_is_put_away_and_not_followed",
        f"{_HOME}test_s13_a_link_in_the_place_of_a_seed_is_put_away_and_not_followed",
        f"{_HOME}test_s13_a_link_in_the_place_of_the_run_files_folder_gets_no_token",
        f"{_HOME}test_s13_a_link_in_the_place_of_the_logs_folder_gets_no_line",
        f"{_HOME}test_s13_the_home_itself_may_be_a_link",
        f"{_HOME}test_s13_folders_that_others_could_write_in_are_closed",
        f"{_HOME}test_s13_a_sticky_folder_for_all_may_be_home",
        f"{_HOME}test_s13_a_folder_of_another_user_is_refused_and_one_of_roots_where_all_may_write",
    ],
    "C12": [f"{_MODULE}test_e11_c12_a_client_that_leaves_an_install_leaves_it_running_for_the_next_one"],
    "P4": [
        f"{_KILLED}test_a_kill_at_any_moment_leaves_nothing_that_must_be_repaired",
        f"{_ROWS}test_e1_p4_a_kill_of_uv_at_any_moment_leaves_nothing_that_must_be_repaired",
    ],
    "P5": [
        f"{_STOPS}test_e3_p5_two_modules_with_eight_clients_each_install_once_in_whatever_order",
        f"{_KILLED}test_two_modules_with_eight_clients_each_build_it_once",
    ],
    "P19": _P19,
}
