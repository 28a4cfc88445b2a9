"""Which tests show the rows about secrets, addresses and the log."""

from typing import Final

_SECRETS: Final = "tests/faults/test_secrets.py::"
_ADDRESSES: Final = "tests/faults/test_addresses.py::"
_SINKS: Final = "tests/faults/test_log_sinks.py::"
_FIELDS: Final = "tests/supervision/test_fields.py::"
_KEYS: Final = "tests/cli/test_keys.py::"

ROWS: Final[dict[str, list[str]]] = {
    "R15": [
        f"{_SINKS}test_r15_a_stderr_that_nobody_reads_holds_up_neither_clients_nor_the_end",
        f"{_SINKS}test_r15_streams_that_are_closed_from_the_start_are_no_reason_to_fail",
        f"{_SINKS}test_r15_a_log_file_that_cannot_be_written_is_told_once_and_the_module_goes_on",
        f"{_SINKS}test_r15_what_a_blocked_place_cannot_take_is_dropped_counted_and_said",
        f"{_SINKS}test_r15_a_full_disk_is_told_once_for_each_time_it_becomes_full",
    ],
    "S5": [
        f"{_SECRETS}test_s5_during_a_load_the_key_is_in_nobodys_arguments_or_environment",
        f"{_SECRETS}test_s5_during_an_installation_the_key_is_in_nobodys_arguments_or_environment",
        "tests/system/test_real_workers.py::test_a_key_is_in_no_argv_environment_log_or_message",
    ],
    "S6": [
        f"{_SECRETS}test_s6_no_form_of_a_key_reaches_a_log_or_a_message",
        f"{_SECRETS}test_s6_model_text_is_never_touched",
        f"{_SECRETS}test_s6_the_redactor_forgets_what_no_load_uses",
        f"{_SECRETS}test_s6_one_clients_key_garbles_no_other_clients_messages",
        f"{_SECRETS}test_s6_passwords_of_proxies_and_indexes_are_in_no_log",
        "tests/worker/test_runtime_process.py::test_a_key_leaves_a_worker_neither_in_an_answer_nor_in_its_log",
    ],
    "S7": [
        f"{_SECRETS}test_s7_neither_the_module_nor_what_it_starts_leaves_a_core_dump",
        f"{_SECRETS}test_s7_a_worker_that_dies_of_a_segmentation_fault_leaves_none",
    ],
    "S8": [
        f"{_KEYS}test_only_the_owner_may_read_the_file_whatever_the_umask",
        f"{_KEYS}test_a_link_in_place_of_the_file_is_neither_read_nor_written",
        f"{_KEYS}test_modes_that_let_others_in_are_told_and_mended_by_the_next_write",
    ],
    "S17": [
        f"{_ADDRESSES}test_s17_no_form_of_a_link_local_address_is_taken",
        f"{_ADDRESSES}test_s17_a_number_is_the_address_that_the_system_makes_of_it",
        f"{_ADDRESSES}test_s17_off_loopback_a_load_names_what_the_operator_named",
        f"{_ADDRESSES}test_s17_the_pool_asks_where_the_module_listens",
        f"{_ADDRESSES}test_s17_a_name_that_leads_to_a_metadata_address_gets_no_connection",
        f"{_ADDRESSES}test_s17_a_name_that_is_rebound_is_looked_at_with_each_connection",
        f"{_ADDRESSES}test_s17_a_redirect_is_a_failure_and_never_followed",
    ],
    "S18": [
        f"{_FIELDS}test_the_servers_own_key_is_never_sent_to_an_address_that_a_client_chose",
        f"{_FIELDS}test_another_scheme_port_or_host_is_another_origin",
        f"{_FIELDS}test_the_servers_own_key_is_not_sent_to_a_host_that_a_client_chose",
        f"{_FIELDS}test_an_option_that_stands_for_an_address_is_one_and_parts_of_two_addresses_are_never_mixed",
        "tests/workers/test_openai_compatible_in_the_module.py::"
        "test_the_servers_own_key_goes_to_its_own_address_and_to_none_that_a_client_chose",
    ],
    "S21": [
        f"{_SECRETS}test_s21_an_error_that_nobody_meant_is_one_short_line_that_says_where_the_log_is",
        "tests/worker/test_generation.py::"
        "test_s21_of_an_error_that_nobody_meant_the_last_line_is_told_and_where_the_rest_is",
        "tests/server/test_errors.py::test_a_bug_says_its_name_and_nothing_of_its_text",
    ],
    "S22": [
        f"{_SECRETS}test_s22_prompts_and_answers_are_in_no_log_though_it_says_everything",
        f"{_SECRETS}test_s22_content_that_is_asked_for_is_logged_without_keys",
        f"{_SECRETS}test_s22_at_other_levels_not_even_asked_for_content_is_logged",
    ],
    "S24": [
        "tests/cli/test_cli_chat.py::test_control_characters_of_a_model_do_not_reach_the_terminal",
        f"{_SINKS}test_s24_words_from_elsewhere_in_the_log_cannot_steer_the_terminal",
        "tests/cli/test_cli_text.py::test_control_characters_cannot_reach_a_terminal",
        "tests/cli/test_cli_text.py::test_json_has_no_control_character_unescaped",
        "tests/cli/test_cli_chat.py::test_s24_names_from_a_provider_cannot_steer_the_terminal",
    ],
    "P17": [f"{_SECRETS}test_p17_the_watch_finds_a_key_that_leaks"],
    "P20": [
        f"{_ADDRESSES}test_p20_urls_are_taken_or_refused_as_the_corpus_says",
        f"{_ADDRESSES}test_p20_the_corpus_has_the_forms_that_it_should",
    ],
}
