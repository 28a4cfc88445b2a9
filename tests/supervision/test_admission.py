"""Who may generate now and who waits."""

from waifu_llm.supervision.admission import Admission, Answer


def test_items_start_while_there_are_places_and_wait_after_that() -> None:
    admission: Admission[int] = Admission(2, 2)
    assert [admission.offer("a", n) for n in range(5)] == [
        Answer.START, Answer.START, Answer.WAIT, Answer.WAIT, Answer.FULL,
    ]  # fmt: skip
    assert (admission.running, admission.queued) == (2, 2)


def test_a_place_that_is_given_back_goes_to_the_item_that_waited_longest() -> None:
    admission: Admission[int] = Admission(1, 9)
    for n in range(3):
        admission.offer("a", n)
    assert [admission.leave("a"), admission.leave("a"), admission.leave("a")] == [1, 2, None]
    assert (admission.running, admission.queued) == (0, 0)


def test_connections_are_served_in_turn() -> None:
    admission: Admission[str] = Admission(4, 99)
    for n in range(4):
        admission.offer("first", f"f{n}")
    for connection in ("a", "b", "c"):
        for n in range(2):
            admission.offer(connection, f"{connection}{n}")
    assert [admission.leave("first") for _ in range(4)] == ["a0", "b0", "c0", "a1"]


def test_one_connection_takes_at_most_half_of_the_places_while_others_wait() -> None:
    admission: Admission[str] = Admission(4, 99)
    for n in range(8):
        admission.offer("greedy", f"g{n}")
    admission.offer("modest", "m0")
    assert admission.leave("greedy") == "m0"


def test_places_are_not_left_empty_where_only_greedy_connections_wait() -> None:
    admission: Admission[str] = Admission(2, 99)
    for n in range(4):
        admission.offer("greedy", f"g{n}")
    assert admission.leave("greedy") == "g2"


def test_a_waiting_item_can_be_withdrawn_once() -> None:
    admission: Admission[str] = Admission(1, 9)
    for item in ("x", "y", "z"):
        admission.offer("a", item)
    assert admission.withdraw("a", "y")
    assert not admission.withdraw("a", "y")
    assert not admission.withdraw("b", "z")
    assert admission.leave("a") == "z"
    assert admission.withdraw("a", "z") is False


def test_withdrawing_the_last_item_forgets_the_connection() -> None:
    admission: Admission[str] = Admission(1, 9)
    admission.offer("a", "x")
    admission.offer("b", "y")
    assert admission.withdraw("b", "y")
    assert admission.leave("a") is None
    assert admission.offer("c", "z") is Answer.START
