"""A command may draw on the user's terminal, and what it drew is kept for the case that it fails."""

import os
import sys
from collections.abc import Iterator

import psutil
import pytest
from support.waiting import bounded

from waifu_llm.supervision.process import Processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is POSIX")

CODE = """
import os, sys
assert os.isatty(2) is (sys.argv[1] == "terminal"), "stderr"
columns = os.get_terminal_size(2).columns if os.isatty(2) else 0
sys.stderr.write("\\x1b[32mhalf\\x1b[0m\\rdone\\n")
sys.stderr.flush()
print(columns)
sys.exit(3)
"""
ENV = {"PATH": os.environ.get("PATH", os.defpath)}


@pytest.fixture(autouse=True)
def nothing_is_raised_in_the_loop(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What a callback of the loop raises changes nothing but the log."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelname == "ERROR"] == []


async def test_a_command_draws_on_a_terminal_of_its_own_and_its_text_is_kept_plain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "77")
    drawn: list[bytes] = []
    lines: list[str] = []
    async with Processes(drawn.append) as processes, bounded():
        done = await processes.run(
            [sys.executable, "-I", "-c", CODE, "terminal"], env=ENV, on_line=lines.append, on_terminal=True
        )
    assert (done.returncode, done.stdout) == (3, "77\n")
    assert b"\x1b[32mhalf" in b"".join(drawn)
    assert "half\ndone\n" in done.tail
    assert "\x1b" not in done.tail
    assert lines == [], "what is drawn is not told a second time"


@pytest.mark.parametrize("on_terminal", [False, True])
async def test_without_a_terminal_its_lines_are_told(on_terminal: bool) -> None:
    lines: list[str] = []
    async with Processes() as processes, bounded():
        done = await processes.run(
            [sys.executable, "-I", "-c", CODE, "pipe"], env=ENV, on_line=lines.append, on_terminal=on_terminal
        )
    assert done.returncode == 3
    assert lines != []


async def test_a_command_that_may_draw_but_cannot_be_started_leaves_no_terminal_open() -> None:
    before = psutil.Process().num_fds()
    async with Processes(lambda data: None) as processes, bounded():
        with pytest.raises(OSError, match="nowhere"):
            await processes.run(["/nowhere/at/all"], env=ENV, on_terminal=True)

    assert psutil.Process().num_fds() <= before
