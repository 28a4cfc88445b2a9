"""`waifu-llm logs`: the whole log, and what comes, through a change of files."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.command_line import PROGRAM, Cli

from waifu_llm.cli.logs_command import _follow


@pytest.fixture
def log(home: Path) -> Path:
    (home / "logs").mkdir(parents=True)
    return home / "logs" / "echo.log"


def test_a_log_is_printed_without_what_could_steer_the_terminal(cli: Cli, log: Path) -> None:
    log.write_bytes(b"first \x1b[2Jline\nsecond \xff\n")
    ran = cli("logs", "echo")
    assert (ran.code, ran.out, ran.err) == (0, "first [2Jline\nsecond \ufffd\n", "")


def test_the_log_of_the_module_has_its_name(cli: Cli, log: Path) -> None:
    log.with_name("waifu-llm.log").write_text("of the module\n")
    assert cli("logs", "waifu-llm").out == "of the module\n"


def test_a_log_that_is_not_there_yet_is_told_with_its_place(cli: Cli, log: Path) -> None:
    ran = cli("logs", "echo")
    assert (ran.code, ran.err) == (1, f"waifu-llm: echo has no log yet; it would be {log}\n")


@pytest.mark.parametrize("name", ["ehco", "../keys", ""])
def test_only_names_there_are_have_logs(cli: Cli, log: Path, name: str) -> None:
    ran = cli("logs", name)
    assert ran.code == 1
    assert f"there is no {name!r}; there are: echo, openai" in ran.err
    assert ran.err.endswith(", waifu-llm\n")


def test_following_shows_what_comes_and_goes_on_in_the_next_file(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Event()

    def look_again(seconds: float) -> None:
        looked.set()
        turn.acquire()

    turn = threading.Semaphore(0)
    monkeypatch.setattr("time.sleep", look_again)
    pieces: list[str] = []
    followed = _follow(log)
    reader = threading.Thread(target=lambda: pieces.extend(next(followed) for _ in range(3)))
    reader.start()
    for text, target in (("one\n", "a"), ("two\n", "a"), ("three\n", "w")):
        assert looked.wait(20)
        looked.clear()
        if target == "w":
            log.replace(log.with_suffix(".log.1"))
            turn.release()
            assert looked.wait(20)
            looked.clear()
        with log.open(target) as file:
            file.write(text)
        turn.release()
    reader.join(20)
    assert pieces == ["one\n", "two\n", "three\n"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to a single process")
def test_following_ends_with_ctrl_c(log: Path) -> None:
    log.write_text("so far\n")
    process = subprocess.Popen(
        [*PROGRAM, "logs", "echo", "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "so far\n"
    process.send_signal(2)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, "\n")
