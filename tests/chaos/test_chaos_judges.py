"""What a chaos run calls a broken promise: the judge is judged."""

import subprocess
import sys
from typing import Any, cast

import psutil
import pytest
from support.chaos.clients import World
from support.chaos.ledger import Book, Ledger, Plan
from support.chaos.module import ChaosModule
from support.chaos.run import ChaosRun
from support.chaos.watch import Watch
from support.waiting import wait_until

COUNTED = Plan("fake", "count=3", whole="0 1 2 ")
FAILING = Plan("fake", "exit=1", whole="0 ", fails=True)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(("canary",))


@pytest.fixture
def book(ledger: Ledger) -> Book:
    return ledger.book("somebody")


def chunk(text: str) -> dict[str, Any]:
    return {"type": "generate_stream_chunk", "unique_request_id": "1", "chunk": text}


def end(error: str = "SUCCESS", **more: str) -> dict[str, Any]:
    return {"type": "generate_stream_done", "unique_request_id": "1", "error": error, **more}


@pytest.mark.parametrize(
    ("plan", "messages"),
    [
        (COUNTED, [chunk("0 "), chunk("1 2 "), end()]),
        (COUNTED, [chunk("0 "), end("UNEXPECTED", message="the worker died")]),
        (COUNTED, [end("TIMEOUT")]),
        (FAILING, [chunk("0 "), end("UNEXPECTED")]),
    ],
)
def test_what_was_promised_is_no_breach(ledger: Ledger, book: Book, plan: Plan, messages: list[dict[str, Any]]) -> None:
    book.ask("1", "generate", plan)
    for message in messages:
        book.hear(message)
    book.close(by_us=False)
    assert (ledger.breaches, ledger.lost, ledger.double) == ([], 0, 0)


@pytest.mark.parametrize(
    ("plan", "messages", "part"),
    [
        (COUNTED, [chunk("0 "), chunk("2 "), end()], "I2"),
        (COUNTED, [chunk("0 "), end()], "I2"),
        (COUNTED, [chunk("1 "), end("UNEXPECTED")], "no beginning"),
        (COUNTED, [chunk("0 1 2 "), end(), end()], "a second end"),
        (COUNTED, [end("TIMEOUT"), chunk("0 ")], "after the end"),
        (COUNTED, [chunk("0 ")], "never heard the end"),
        (COUNTED, [{"type": "load_ack", "unique_request_id": "2"}, end("TIMEOUT")], "never used"),
        (COUNTED, [end("TIMEOUT", message="with the canary in it")], "I5"),
        (FAILING, [chunk("0 "), end()], "succeeded"),
    ],
)
def test_what_breaks_a_promise_is_told(
    ledger: Ledger, book: Book, plan: Plan, messages: list[dict[str, Any]], part: str
) -> None:
    book.ask("1", "generate", plan)
    for message in messages:
        book.hear(message)
    book.close(by_us=False)
    (breach,) = ledger.breaches
    assert part in breach


def test_who_leaves_first_has_lost_nothing(ledger: Ledger, book: Book) -> None:
    book.ask("1", "generate", COUNTED)
    book.close(by_us=True)
    assert ledger.breaches == []


def test_what_is_overdue_is_known(book: Book) -> None:
    request = book.ask("1", "generate", COUNTED)
    assert book.overdue(request.deadline - 1) == []
    assert book.overdue(request.deadline + 1) == [request]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no zombies")
def test_a_zombie_that_stays_is_told_of_once_with_whose_it_is(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', '']); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as parent:
        module = cast(ChaosModule, LikeAModule(parent.pid))
        watch = Watch(module, World("", "", ledger))
        wait_until(lambda: [child.status() for child in module.descendants()] == [psutil.STATUS_ZOMBIE], "it is one")
        watch.look_at_processes(secrets=False)
        assert ledger.breaches == []
        monkeypatch.setattr("support.chaos.watch._ZOMBIE_S", 0.0)
        for _ in range(3):
            watch.look_at_processes(secrets=False)
        parent.kill()
    (breach,) = ledger.breaches
    assert f"left by {parent.pid} (" in breach
    assert watch.zombie_s > 0


class LikeAModule:
    """As much of one as the watch over its processes looks at."""

    def __init__(self, pid: int) -> None:
        self.seen: dict[psutil.Process, str] = {}
        self._pid = pid

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self._pid).children(recursive=True)


def test_a_broken_promise_is_told_with_the_seed_and_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    run = ChaosRun(0, 4711)
    run.note("kill -9 worker")
    run.ledger.breach("I1: somebody never heard the end")
    assert run.tell() == 1
    said = capsys.readouterr().out
    assert "seed 4711" in said
    assert "I1: somebody never heard the end" in said
    assert "s  kill -9 worker" in said


def test_a_run_without_one_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    run = ChaosRun(0, 1)
    run.delta = {"fds": 0, "tasks": 0, "threads": 0, "children": 0}
    assert run.tell() == 0
    assert capsys.readouterr().out.endswith("0 lost, 0 double, 0 orphans, fd/task/thread/child delta 0\n")
