"""Which tests show the rows of clients, the protocol, the transport and the module's doors."""

from typing import Final

_C: Final = "tests/faults/client/"
_FRAMES: Final = f"{_C}test_client_frames.py::"
_TRANSPORT: Final = f"{_C}test_client_transport.py::"
_LIMITS: Final = f"{_C}test_client_limits.py::"
_FLOODS: Final = f"{_C}test_floods_and_bugs.py::"
_FILES: Final = f"{_C}test_open_files.py::"
_FUZZ: Final = f"{_C}test_socket_fuzz.py::"
_PROXY: Final = f"{_C}test_chaos_proxy.py::"
_MATRIX: Final = "tests/faults/test_doors_matrix.py::"
_SERVER: Final = "tests/server/test_server_limits.py::"
_SERVER_DOORS: Final = "tests/server/test_server_doors.py::"
_RULES: Final = "tests/server/test_doors.py::"
_READING: Final = "tests/server/test_reading_requests.py::"
_SESSION: Final = "tests/server/test_session_requests.py::"
_REAL: Final = "tests/system/test_real_workers.py::"
_HOLDINGS: Final = "tests/supervision/test_holdings.py::"
_ADMISSION: Final = "tests/supervision/test_admission.py::"

ROWS: Final[dict[str, list[str]]] = {
    "C1": [
        f"{_FRAMES}test_c1_a_hundred_frames_that_are_no_request_get_an_error_each_and_the_connection_stays",
        f"{_READING}test_what_is_no_json_object_is_unreadable_without_an_id",
    ],
    "C2": [
        f"{_FRAMES}test_c2_the_kinds_of_this_test_are_those_of_the_protocol",
        f"{_FRAMES}test_c2_each_field_absent_null_empty_or_of_a_wrong_type_is_answered_in_kind_once",
        f"{_READING}test_a_known_type_with_an_id_is_always_answered_in_kind",
    ],
    "C3": [
        f"{_FRAMES}test_c3_numbers_that_are_none_or_too_large_are_refused_wherever_a_number_stands",
        f"{_FRAMES}test_c3_none_of_them_is_an_id_or_the_time_of_a_load",
    ],
    "C4": [f"{_FRAMES}test_c4_nesting_of_any_depth_is_answered_and_breaks_nothing"],
    "C5": [
        f"{_FRAMES}test_c5_a_text_frame_that_is_no_utf8_closes_with_1007_and_disturbs_nobody",
        f"{_SERVER}test_text_that_is_no_utf8_closes_with_1007",
    ],
    "C6": [f"{_FRAMES}test_c6_a_binary_frame_is_text_by_another_name"],
    "C7": [
        f"{_FRAMES}test_c7_the_limit_of_16_mib_is_exact",
        f"{_SERVER}test_a_message_up_to_the_limit_is_read",
        f"{_SERVER}test_a_message_over_the_limit_gets_an_error_and_then_1009",
        f"{_SERVER}test_a_message_over_twice_the_limit_is_1009_alone",
    ],
    "C8": [
        f"{_FRAMES}test_c8_a_message_in_pieces_of_any_size_is_one_message",
        f"{_FRAMES}test_c8_empty_pieces_and_pieces_within_a_character_change_nothing",
        f"{_FRAMES}test_c8_a_ping_within_a_message_is_answered_before_it",
        f"{_FRAMES}test_c8_frames_against_the_rules_close_with_1002_and_disturb_nobody",
        f"{_FRAMES}test_c8_a_message_has_at_most_4096_pieces",
    ],
    "C9": [
        f"{_TRANSPORT}test_c9_off_loopback_a_client_that_fell_silent_is_given_up_and_what_it_ran_is_cancelled",
        f"{_TRANSPORT}test_c9_off_loopback_a_client_that_answers_pings_stays",
        f"{_TRANSPORT}test_c9_off_loopback_the_published_times_are_20_and_60_seconds",
        f"{_TRANSPORT}test_c9_on_loopback_nobody_is_asked_whether_it_is_there",
    ],
    "C10": [
        f"{_TRANSPORT}test_c10_twenty_clients_that_read_nothing_take_bounded_memory_and_no_time_of_their_neighbour",
        f"{_TRANSPORT}test_c10_one_that_reads_on_however_slowly_is_no_stalled_one",
        f"{_SERVER}test_a_client_that_does_not_read_is_disconnected_and_its_neighbours_never_wait",
        f"{_SERVER}test_one_that_reads_again_in_time_finds_the_code_1013",
        f"{_SERVER}test_one_that_reads_nothing_for_too_long_is_cut_though_little_waits",
        f"{_SERVER}test_a_client_that_falls_behind_gets_all_its_text_in_order_in_fewer_pieces",
    ],
    "C11": [
        f"{_TRANSPORT}test_c11_a_socket_that_is_cut_at_any_chunk_cancels_its_generation_without_a_word",
        f"{_REAL}test_a_vanished_client_ends_its_generation_at_the_worker",
    ],
    "C12": [f"{_TRANSPORT}test_c12_who_leaves_in_a_load_stops_waiting_and_the_others_get_theirs"],
    "C13": [
        f"{_LIMITS}test_c13_ten_thousand_requests_of_one_client_end_once_each_and_a_neighbour_is_served_in_its_turn",
        f"{_LIMITS}test_c13_the_first_request_of_a_neighbour_is_taken_though_one_client_has_filled_the_queue",
        f"{_LIMITS}test_c13_a_gateway_has_no_share_of_one_client",
    ],
    "C14": [f"{_FRAMES}test_c14_a_second_request_with_a_running_id_gets_an_error_and_the_first_its_own_end"],
    "C15": [f"{_FRAMES}test_c15_an_id_is_free_again_after_its_end_and_belongs_to_its_connection"],
    "C16": [
        f"{_FRAMES}test_c16_an_id_of_any_characters_comes_back_exactly",
        f"{_FRAMES}test_c16_weird_ids_come_back_over_the_socket_and_bad_ones_are_told_apart",
    ],
    "C17": [
        f"{_TRANSPORT}test_c17_sockets_that_say_nothing_are_let_go_and_those_inside_go_on",
        f"{_TRANSPORT}test_c17_sockets_that_begin_no_tls_are_let_go_as_well",
        f"{_TRANSPORT}test_c17_a_thousand_silent_sockets_do_not_keep_out_who_says_what_it_wants",
        f"{_TRANSPORT}test_c17_two_thousand_connections_are_inside_and_one_more_gets_503",
        f"{_TRANSPORT}test_c17_a_hundred_handshakes_in_one_moment_are_no_way_past_the_limit",
        f"{_TRANSPORT}test_c17_where_few_files_may_be_open_clients_leave_some_for_the_workers",
    ],
    "C18": [
        f"{_TRANSPORT}test_c18_long_lines_and_many_headers_are_refused_at_their_limits",
        f"{_TRANSPORT}test_c18_many_long_headers_are_cut_before_they_take_a_megabyte",
        f"{_TRANSPORT}test_c18_what_is_no_http_is_let_go_without_a_trace",
    ],
    "C19": [
        f"{_SERVER_DOORS}test_only_loopback_hosts_and_pages_get_in",
        f"{_RULES}test_no_header_makes_it_raise",
        f"{_MATRIX}test_p18_over_real_sockets_every_host_every_origin_and_every_token_get_the_same_answer",
    ],
    "R14": [
        f"{_FILES}test_r14_clients_wait_where_no_file_can_be_opened_and_one_line_says_so",
        f"{_FILES}test_r14_other_failures_of_asyncio_are_told_as_ever",
        f"{_FILES}test_r14_with_64_files_a_crowd_of_clients_leaves_enough_for_a_worker",
    ],
    "R16": [
        f"{_FLOODS}test_r16_a_bug_in_one_requests_text_ends_that_request_and_no_other_of_its_worker",
        f"{_FLOODS}test_r16_an_end_that_breaks_is_an_end_all_the_same",
    ],
    "R17": [
        f"{_FLOODS}test_r17_what_costs_time_is_read_again_only_after_a_few_times_that_time",
        f"{_FLOODS}test_r17_what_could_not_be_read_is_tried_again",
        f"{_FLOODS}test_r17_a_flood_of_questions_is_answered_from_what_was_read_last",
        f"{_FLOODS}test_r17_for_whom_thousands_of_messages_wait_the_others_do_not",
        f"{_FLOODS}test_r17_who_sends_frames_that_cost_time_lets_the_others_in_between_each",
    ],
    "S1": [
        f"{_RULES}test_any_other_page_is_refused",
        f"{_RULES}test_native_clients_and_loopback_pages_are_let_in",
        f"{_RULES}test_a_listed_origin_is_let_in_by_scheme_host_and_port",
        f"{_MATRIX}test_s1_two_of_a_header_are_none",
    ],
    "S2": [
        f"{_RULES}test_any_other_host_is_refused",
        f"{_MATRIX}test_s2_a_name_that_was_rebound_to_this_machine_is_refused_though_host_and_origin_agree",
    ],
    "S3": [
        f"{_RULES}test_the_token_opens_the_door",
        f"{_RULES}test_without_the_token_the_door_stays_shut",
        f"{_MATRIX}test_s3_tokens_are_compared_in_a_time_that_tells_nothing",
        f"{_MATRIX}test_s3_a_token_in_the_url_opens_nothing_and_is_in_no_log",
    ],
    "S4": [
        f"{_MATRIX}test_s4_what_each_combination_of_address_token_and_certificate_does_at_the_start",
        f"{_MATRIX}test_s4_off_loopback_the_handshake_itself_asks_for_the_token",
        f"{_MATRIX}test_s4_a_server_that_may_not_start_has_bound_nothing",
    ],
    "S19": [
        f"{_LIMITS}test_s19_one_client_has_so_many_requests_under_way_and_no_more",
        f"{_LIMITS}test_s19_prompts_that_wait_are_weighed_and_a_neighbour_still_has_room",
        f"{_LIMITS}test_s19_an_answer_that_is_not_streamed_ends_where_it_becomes_too_long",
        f"{_LIMITS}test_s19_a_worker_that_never_stops_talking_costs_no_more_than_the_limit",
        f"{_LIMITS}test_s19_the_fields_of_a_load_are_few_and_short",
        f"{_LIMITS}test_s19_a_thousand_keys_are_not_a_thousand_workers",
        f"{_HOLDINGS}test_the_worker_that_nobody_used_for_longest_makes_room",
        f"{_ADMISSION}test_a_full_queue_ends_up_in_equal_shares",
    ],
    "S20": [f"{_MATRIX}test_s20_compression_is_never_agreed_on_whatever_is_offered"],
    "S23": [
        f"{_MATRIX}test_s23_nothing_that_a_client_says_changes_who_may_connect",
        f"{_MATRIX}test_s23_settings_and_doors_cannot_be_changed_by_us_either",
    ],
    "P9": [f"{_FUZZ}test_p9_twenty_thousand_messages_get_one_end_each_and_leave_nothing_behind"],
    "P13": [
        f"{_LIMITS}test_c13_ten_thousand_requests_of_one_client_end_once_each_and_a_neighbour_is_served_in_its_turn"
    ],
    "P14": [f"{_PROXY}test_p14_twenty_clients_behind_a_bad_line_disturb_nobody_and_leave_nothing"],
    "P18": [
        f"{_MATRIX}test_p18_of_a_thousand_combinations_only_the_listed_ones_come_in",
        f"{_MATRIX}test_p18_over_real_sockets_every_host_every_origin_and_every_token_get_the_same_answer",
    ],
}
