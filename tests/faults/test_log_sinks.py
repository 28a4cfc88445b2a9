"""Rows R15 and W10: logging never blocks the module, whatever becomes of the places that it writes to."""

import errno
import io
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.running_module import served
from support.waiting import WAIT_S
from websockets.sync.client import connect

from waifu_llm import log
from waifu_llm.cli.quiet import log_to_file
from waifu_llm.log import WorkerLog
from waifu_llm.log.background import WAITING_CHARS, Background
from waifu_llm.log.sinks import Files, notice, write_stream
from waifu_llm.redaction import Redactor

# A refusal is logged with about 90 characters; a pipe holds 64 KiB of them.
MORE_THAN_A_PIPE_HOLDS = 1200


def knock(url: str) -> bytes:
    """Come as a web page that is not let in; the status line of the answer."""
    at = urlsplit(url)
    request = (
        f"GET / HTTP/1.1\r\nHost: {at.netloc}\r\nOrigin: https://evil.example\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with socket.create_connection((at.hostname, at.port), timeout=WAIT_S) as client:
        client.sendall(request.encode())
        return client.recv(100).partition(b"\r\n")[0]


def test_r15_a_stderr_that_nobody_reads_holds_up_neither_clients_nor_the_end(home: Path) -> None:
    with served() as module:
        for _ in range(MORE_THAN_A_PIPE_HOLDS):
            assert b"403" in knock(module.url)
        with connect(module.url, open_timeout=WAIT_S):
            pass
        module.signal(signal.SIGTERM)
        assert module.wait() == 0
    lines = (home / "logs" / "waifu-llm.log").read_text("utf-8").splitlines()
    assert sum("HTTP 403" in line for line in lines) == MORE_THAN_A_PIPE_HOLDS
    assert lines[-1].endswith("stopping")


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 2>&-"])
def test_r15_streams_that_are_closed_from_the_start_are_no_reason_to_fail(closed: str) -> None:
    program = [sys.executable, "-m", "waifu_llm.cli", "serve", "--port", "0"]
    shell = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *program]
    with subprocess.Popen(shell, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[3]
            assert b"403" in knock(url)
            with connect(url, open_timeout=WAIT_S):
                pass
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
        finally:
            process.kill()


def test_r15_a_log_file_that_cannot_be_written_is_told_once_and_the_module_goes_on(home: Path) -> None:
    (home / "logs" / "waifu-llm.log").mkdir(parents=True)
    with served() as module:
        for _ in range(3):
            assert b"403" in knock(module.url)
        module.signal(signal.SIGTERM)
        assert module.wait() == 0
        assert module.process.stderr is not None
        said = module.process.stderr.read()
    assert said.count("cannot write") == 1
    assert said.count("HTTP 403") == 3


class Place:
    """Somewhere to write that is held up, or fails, as long as the test wants."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reached = threading.Semaphore(0)
        self.open = threading.Event()
        self.failing = False

    def write(self, place: str, text: str) -> None:
        self.reached.release()
        assert self.open.wait(WAIT_S)
        if self.failing:
            raise OSError(errno.ENOSPC, "no space left")
        self.texts.append(f"{place}:{text}")


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def background(place: Place) -> Background[str]:
    return Background(place.write, lambda lines: f"<{lines}>")


@pytest.mark.usefixtures("no_leaks")
def test_r15_what_a_blocked_place_cannot_take_is_dropped_counted_and_said(
    place: Place, background: Background[str]
) -> None:
    block = "x" * (WAITING_CHARS // 2 - 1) + "\n"
    background.put("a", "first\n")
    assert place.reached.acquire(timeout=WAIT_S)
    for _ in range(5):
        background.put("b", block)
    assert not background.flush(0)
    place.open.set()
    assert background.flush(WAIT_S)
    assert place.texts == ["a:first\n", f"b:<3>{block}", f"b:{block}"]


def test_r15_dropped_lines_are_said_though_nothing_else_is_logged_there(
    place: Place, background: Background[str]
) -> None:
    background.put("a", "first\n")
    assert place.reached.acquire(timeout=WAIT_S)
    background.put("a", "x" * WAITING_CHARS)
    background.put("b", "y\n" * WAITING_CHARS)
    place.open.set()
    assert background.flush(WAIT_S)
    assert place.texts == ["a:first\n", "a:" + "x" * WAITING_CHARS, f"b:<{WAITING_CHARS}>"]


def test_r15_what_failed_is_counted_and_said_once_the_place_is_mended(
    place: Place, background: Background[str]
) -> None:
    place.open.set()
    place.failing = True
    background.put("a", "one\ntwo\n")
    background.put("a", "three\n")
    assert background.flush(WAIT_S)
    place.failing = False
    background.put("a", "four\n")
    assert background.flush(WAIT_S)
    assert place.texts == ["a:<3>four\n"]


def test_r15_without_a_thread_to_be_had_texts_wait_for_the_next_one(
    place: Place, background: Background[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.open.set()

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", none_left)
        background.put("a", "one\n")
        assert not background.flush(WAIT_S)
    assert background.flush(WAIT_S)
    assert place.texts == ["a:one\n"]


def test_r15_a_full_disk_is_told_once_for_each_time_it_becomes_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, shown = tmp_path / "logs" / "a.log", io.StringIO()
    files = Files()
    files.complain_to = shown
    open_file = os.open

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for opener in (full, full, open_file, full):
        monkeypatch.setattr(os, "open", opener)
        try:
            files.append(file, "line\n")
        except OSError:
            assert opener is full
    assert log.flush(WAIT_S)
    assert shown.getvalue().count("No space left") == 2
    assert file.read_text("utf-8") == "line\n"


def test_r15_a_full_file_makes_place_for_the_next_and_links_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, files = tmp_path / "a.log", Files()
    monkeypatch.setattr("waifu_llm.log.sinks.ROTATE_BYTES", 10)
    for text in ("0123456789\n", "next\n"):
        files.append(file, text)
    assert file.read_text("utf-8") == "next\n"
    assert (tmp_path / "a.log.1").read_text("utf-8") == "0123456789\n"
    link = tmp_path / "b.log"
    link.symlink_to(file)
    with pytest.raises(OSError, match=r"b\.log"):
        files.append(link, "x")


class Raw(io.RawIOBase):
    """A descriptor that takes `portion` bytes at a time, None: none now."""

    def __init__(self, portion: int | None) -> None:
        self.portion = portion
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int | None:
        if self.portion is None:
            return None
        piece = bytes(data)[: self.portion]  # type: ignore[call-overload]
        self.taken += piece
        return len(piece)


def test_r15_a_stream_is_written_past_its_buffer_in_as_many_pieces_as_it_takes() -> None:
    raw = Raw(2)
    write_stream(io.TextIOWrapper(io.BufferedWriter(raw), "ascii"), "né…\n")
    assert raw.taken == b"n\\xe9\\u2026\n"
    with pytest.raises(BlockingIOError):
        write_stream(io.TextIOWrapper(io.BufferedWriter(Raw(None)), "utf-8"), "x")


def test_r15_a_record_that_cannot_be_formatted_is_left_out(home: Path) -> None:
    with log_to_file(home / "logs", "info"):
        logging.getLogger("a").error("%d", "no number")
        logging.getLogger("a").error("said")
    assert [line.partition(" ")[2] for line in (home / "logs" / "waifu-llm.log").read_text().splitlines()] == [
        "ERROR a: said"
    ]


def test_s24_words_from_elsewhere_in_the_log_cannot_steer_the_terminal(home: Path) -> None:
    with log_to_file(home / "logs", "info"):
        logging.getLogger("a").error("its last words: %s", "\x1b]0;title\x07\x9b2J\rover\ttab\nline")
    assert (home / "logs" / "waifu-llm.log").read_text("utf-8").partition(" ")[2] == (
        "ERROR a: its last words: \\x1b]0;title\\x07\\x9b2J\\x0dover\ttab\nline\n"
    )


@pytest.fixture
def flooded(tmp_path: Path) -> tuple[WorkerLog, Callable[[float], None]]:
    now = 0.0

    def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    return WorkerLog(tmp_path / "fake.log", Redactor(), lambda: now), pass_time


def lines_of(worker: WorkerLog) -> list[str]:
    assert log.flush(WAIT_S)
    return [line.partition(" ")[2] for line in worker.file.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("line", [b"\n", b"x" * 1001 + b"\n"])
def test_w10_a_flood_is_cut_to_its_rate_and_how_much_is_missing_is_said(
    flooded: tuple[WorkerLog, Callable[[float], None]], line: bytes
) -> None:
    worker, pass_time = flooded
    cost = len(line) - 1 + 22
    at_once, per_second = 1024 * 1024 // cost, 64 * 1024 // cost
    worker.write(line * (at_once + 500))
    pass_time(1.0)
    worker.write(line * 5000)
    worker.flush()
    found = lines_of(worker)
    said = [text for text in found if "left out" in text]
    assert said[0] == "[core] 500 lines left out: too many at once"
    missing = sum(int(text.split()[1]) for text in said)
    assert len(found) - len(said) + missing == at_once + 500 + 5000
    assert per_second <= len(found) - len(said) - at_once <= per_second + 1


def test_w10_a_notice_is_one_stamped_line() -> None:
    lines = [notice(count) for count in itertools.islice(itertools.count(1), 2)]
    assert all(line.endswith("\n") and line.count("\n") == 1 and line[4] == "-" for line in lines)
