"""Who may generate now and who waits."""

from collections.abc import Hashable

from waifu_llm.supervision.admission import Admission, Answer


def test_items_start_while_there_are_places_and_wait_after_that() -> None:
    admission: Admission[int] = Admission(2, 2, 100)
    assert [admission.offer("a", n, 1) for n in range(5)] == [
        Answer.START, Answer.START, Answer.WAIT, Answer.WAIT, Answer.FULL,
    ]  # fmt: skip
    assert (admission.running, admission.queued) == (2, 2)


def test_a_place_that_is_given_back_goes_to_the_item_that_waited_longest() -> None:
    admission: Admission[int] = Admission(1, 9, 100)
    for n in range(3):
        admission.offer("a", n, 1)
    assert [admission.leave("a", n) for n in range(3)] == [1, 2, None]
    assert (admission.running, admission.queued) == (0, 0)


def test_connections_are_served_in_turn() -> None:
    admission: Admission[str] = Admission(4, 99, 100)
    for n in range(4):
        admission.offer("first", f"f{n}", 1)
    for connection in ("a", "b", "c"):
        for n in range(2):
            admission.offer(connection, f"{connection}{n}", 1)
    assert [admission.leave("first", f"f{n}") for n in range(4)] == ["a0", "b0", "c0", "a1"]


def test_one_connection_takes_at_most_half_of_the_places_while_others_wait() -> None:
    admission: Admission[str] = Admission(4, 99, 100)
    for n in range(8):
        admission.offer("greedy", f"g{n}", 1)
    admission.offer("modest", "m0", 1)
    assert admission.leave("greedy", "g0") == "m0"


def test_places_are_not_left_empty_where_only_greedy_connections_wait() -> None:
    admission: Admission[str] = Admission(2, 99, 100)
    for n in range(4):
        admission.offer("greedy", f"g{n}", 1)
    assert admission.leave("greedy", "g0") == "g2"


def test_a_waiting_item_can_be_withdrawn_once() -> None:
    admission: Admission[str] = Admission(1, 9, 100)
    for item in ("x", "y", "z"):
        admission.offer("a", item, 1)
    assert admission.withdraw("a", "y")
    assert not admission.withdraw("a", "y")
    assert not admission.withdraw("b", "z")
    assert admission.leave("a", "x") == "z"
    assert admission.withdraw("a", "z") is False


def test_withdrawing_the_last_item_forgets_the_connection() -> None:
    admission: Admission[str] = Admission(1, 9, 100)
    admission.offer("a", "x", 1)
    admission.offer("b", "y", 1)
    assert admission.withdraw("b", "y")
    assert admission.leave("a", "x") is None
    assert admission.offer("c", "z", 1) is Answer.START


# A full queue.


def queue(**waiting: int) -> Admission[str]:
    """One place, taken by nobody of these, and a queue of eight of which each has so many."""
    admission: Admission[str] = Admission(1, 8, 1000)
    admission.offer("running", "r", 1)
    for connection, count in waiting.items():
        for n in range(count):
            assert admission.offer(connection, f"{connection}{n}", 1) is Answer.WAIT
    return admission


def test_one_connection_may_fill_the_queue_while_nobody_else_asks() -> None:
    admission = queue(a=8)
    assert admission.offer("a", "a8", 1) is Answer.FULL
    assert admission.push_back("a", 1) is None
    assert admission.queued == 8


def test_who_has_less_pushes_the_newest_of_who_has_most_out_of_a_full_queue() -> None:
    admission = queue(a=2, b=6)
    assert admission.offer("c", "c0", 1) is Answer.FULL
    assert admission.push_back("c", 1) == "b5"
    assert admission.offer("c", "c0", 1) is Answer.WAIT
    assert (admission.queued, admission.memory) == (8, 9)


def test_a_full_queue_ends_up_in_equal_shares() -> None:
    admission = queue(a=8)
    pushed = []
    for n in range(20):
        while admission.offer("b", f"b{n}", 1) is Answer.FULL and (item := admission.push_back("b", 1)) is not None:
            pushed.append(item)
    assert pushed == ["a7", "a6", "a5", "a4"]
    assert admission.push_back("a", 1) is None


def test_where_everybody_has_one_a_newcomer_waits_for_none_of_them_to_lose_it() -> None:
    admission = queue(a=1, b=1, c=1, d=1, e=1, f=1, g=1, h=1)
    assert admission.offer("i", "i0", 1) is Answer.FULL
    assert admission.push_back("i", 1) is None


def test_a_connection_whose_last_item_is_pushed_back_is_forgotten() -> None:
    admission: Admission[str] = Admission(1, 9, 100)
    admission.offer("running", "r", 40)
    admission.offer("a", "a0", 50)
    assert admission.offer("b", "b0", 20) is Answer.FULL
    assert admission.push_back("b", 20) == "a0"
    assert (admission.queued, admission.memory) == (0, 40)
    assert admission.leave("running", "r") is None


# Memory.


def test_what_waits_takes_no_more_memory_than_there_is() -> None:
    admission: Admission[str] = Admission(9, 9, 100)
    assert admission.offer("a", "a0", 50) is Answer.START
    assert admission.offer("b", "b0", 40) is Answer.START
    assert admission.offer("c", "c0", 11) is Answer.FULL
    assert admission.offer("c", "c0", 10) is Answer.START
    assert admission.memory == 100


def test_one_connection_has_at_most_half_of_the_memory() -> None:
    admission: Admission[str] = Admission(9, 9, 100)
    assert admission.offer("a", "a0", 30) is Answer.START
    assert admission.offer("a", "a1", 21) is Answer.FULL
    assert admission.offer("a", "a1", 20) is Answer.START
    assert admission.offer("b", "b0", 50) is Answer.START


def test_one_item_is_taken_whatever_its_size_where_nothing_else_is_there() -> None:
    admission: Admission[str] = Admission(9, 9, 100)
    assert admission.offer("a", "a0", 500) is Answer.START
    assert admission.offer("b", "b0", 1) is Answer.FULL


def test_what_is_handed_over_takes_no_memory_though_it_keeps_its_place() -> None:
    admission: Admission[str] = Admission(1, 9, 100)
    admission.offer("a", "a0", 50)
    for _ in range(2):
        admission.handed_over("a", "a0")
    assert (admission.memory, admission.running) == (0, 1)
    assert admission.offer("a", "a1", 50) is Answer.WAIT
    assert admission.leave("a", "a0") == "a1"
    assert admission.leave("a", "a1") is None
    assert (admission.memory, admission.running) == (0, 0)


def test_items_without_any_text_are_handed_over_one_by_one_too() -> None:
    admission: Admission[str] = Admission(2, 9, 100)
    for item in ("a0", "a1"):
        assert admission.offer("a", item, 0) is Answer.START
    assert [admission.leave("a", item) for item in ("a0", "a1")] == [None, None]
    assert (admission.memory, admission.running) == (0, 0)


def test_who_waits_with_little_text_pushes_back_who_waits_with_much() -> None:
    admission: Admission[str] = Admission(1, 99, 100)
    admission.offer("running", "r", 20)
    for n in range(5):
        admission.offer("heavy", f"h{n}", 10)
    admission.offer("light", "l0", 25)
    assert admission.offer("new", "n0", 10) is Answer.FULL
    assert admission.push_back("new", 10) == "h4"
    assert admission.offer("new", "n0", 10) is Answer.WAIT


def test_nothing_is_pushed_back_where_the_memory_is_held_by_what_runs() -> None:
    admission: Admission[str] = Admission(9, 9, 100)
    connections: tuple[Hashable, ...] = ("a", "b")
    for connection in connections:
        admission.offer(connection, f"{connection}0", 50)
    assert admission.offer("c", "c0", 1) is Answer.FULL
    assert admission.push_back("c", 1) is None
