"""Which tests show the rows that concern the gateway of LoLLMs programs."""

from typing import Final

_L: Final = "tests/gateways/lollms/"
_CLIENTS: Final = f"{_L}test_transport_clients.py::test_"
_LIMITS: Final = f"{_L}test_transport_limits.py::test_"
_PACKETS: Final = f"{_L}test_transport_packets.py::test_"
_DOORS: Final = f"{_L}test_doors_of_the_gateway.py::test_"
_CONFINED: Final = f"{_L}test_personalities_confinement.py::test_"
_FILES: Final = f"{_L}test_app_files.py::test_"
_DOCUMENTS: Final = f"{_L}test_personalities_documents.py::test_"

ROWS: Final[dict[str, list[str]]] = {
    "C21": [
        f"{_CLIENTS}a_malformed_frame_costs_its_sender_the_connection_and_nobody_else",
        f"{_CLIENTS}text_where_an_attachment_is_due_ends_the_connection",
        f"{_CLIENTS}other_namespaces_are_refused_and_a_second_connect_changes_nothing",
        f"{_CLIENTS}an_acknowledgement_comes_and_says_only_that_the_event_did",
        f"{_PACKETS}a_packet_that_would_wedge_its_session_is_malformed",
        f"{_LIMITS}no_packets_leave_anything_behind_or_trouble_a_neighbour",
    ],
    "P18": [f"{_DOORS}only_the_listed_combinations_of_host_and_origin_come_in"],
    "P19": [f"{_CONFINED}no_path_of_a_client_opens_anything_outside_the_roots"],
    "S1": [f"{_DOORS}only_the_listed_combinations_of_host_and_origin_come_in"],
    "S2": [
        f"{_DOORS}only_the_listed_combinations_of_host_and_origin_come_in",
        f"{_DOORS}two_hosts_or_two_origins_are_none",
    ],
    "S3": [
        f"{_CLIENTS}the_token_lets_a_client_in",
        f"{_CLIENTS}without_the_token_a_client_is_told_what_it_needs",
    ],
    "S14": [
        f"{_CONFINED}no_path_of_a_client_opens_anything_outside_the_roots",
        f"{_CONFINED}a_link_out_of_the_root_is_an_error_and_not_followed",
        f"{_FILES}what_could_hold_a_script_is_no_avatar",
        f"{_FILES}an_avatar_is_its_file_with_its_type",
    ],
    "S15": [
        f"{_DOCUMENTS}a_bomb_is_refused_before_it_grows",
        f"{_DOCUMENTS}endless_nesting_is_refused_before_it_is_followed",
    ],
    "S16": [
        f"{_CLIENTS}the_manager_is_the_one_in_memory",
        f"{_LIMITS}a_frame_is_a_megabyte_at_most",
        f"{_LIMITS}a_payload_is_a_megabyte_at_most",
        f"{_PACKETS}a_payload_holds_sixteen_packets",
    ],
}
