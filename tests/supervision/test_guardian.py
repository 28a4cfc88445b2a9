"""The guardian's own rules, in-process; that it outlives the core and kills is tested with real modules."""

import io
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.waiting import WAIT_S, wait_gone

from waifu_llm.supervision import guardian

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has a job object instead")

STUBBORN = (
    "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); sys.stdin.read()"
)

# What a core is while it starts a child, with a guardian that is told meanwhile to clean up.
CORE_AT_A_START = """
import resource, subprocess, sys
guardian = subprocess.Popen(
    [sys.executable, "-I", "-S", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
)
guardian.stdin.write(sys.argv[2] + "\\n")
guardian.stdin.flush()
guardian.stdout.readline()
resource.setrlimit(10, (int(sys.argv[3]), resource.getrlimit(10)[1]))
guardian.stdin.close()
print(guardian.wait(), "alive")
"""


@contextmanager
def carrier(marker: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that carries the marker and ignores whatever can be ignored."""
    env = {**os.environ, guardian.VARIABLE: marker}
    argv = [sys.executable, "-c", STUBBORN]
    with subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def marker() -> str:
    return uuid.uuid4().hex


def test_only_the_processes_of_its_own_run_are_found(marker: str) -> None:
    with carrier(marker) as ours, carrier(f"{marker}0") as similar:
        found = guardian.carriers(marker)
    assert found == [ours.pid]
    assert similar.pid not in found


def test_whatever_carries_the_marker_is_killed(marker: str) -> None:
    with carrier(marker) as process:
        guardian.kill_carriers(marker, core=0)
        assert process.wait(WAIT_S) == -9


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing bears a mark")
def test_who_bears_a_mark_is_found_until_it_has_ended_though_nobody_has_waited_for_it(marker: str) -> None:
    """A zombie keeps its mark; nothing can end it but its parent, and the guardian would wait for it in vain."""
    mark = guardian.first_mark(marker) + guardian.MARKS - 1
    limit = f"resource.setrlimit({guardian.FILE_LOCKS}, ({mark}, -1))"
    argv = [sys.executable, "-c", f"import resource, sys; {limit}; print('up', flush=True); sys.stdin.read()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert guardian.carriers(marker) == [process.pid]
        process.kill()
        wait_gone([process.pid])
        assert guardian.mark_of(process.pid) == mark
        assert guardian.carriers(marker) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing bears a mark")
def test_a_core_that_bears_a_mark_of_its_own_run_is_spared(marker: str) -> None:
    argv = [sys.executable, "-c", CORE_AT_A_START, guardian.__file__, marker, str(guardian.first_mark(marker))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (done.returncode, done.stdout) == (0, "0 alive\n"), done.stderr


@pytest.mark.parametrize(
    ("limits", "mark"),
    [
        (b"Limit  Soft Limit  Hard Limit  Units\nMax file locks  1234  unlimited  locks\nMax x  5  6  us\n", 1234),
        (b"Limit  Soft Limit  Hard Limit  Units\nMax file locks  unlimited  unlimited  locks\n", None),
        (b"Limit  Soft Limit  Hard Limit  Units\nMax cpu time  1234  unlimited  seconds\n", None),
        (b"", None),
    ],
)
def test_the_mark_is_read_where_there_is_one(limits: bytes, mark: int | None) -> None:
    """R10: a kernel says nothing of what is just being taken away, which ended the guardian amid its work."""
    assert guardian.mark_in(limits) == mark


def test_it_says_that_it_watches_and_kills_when_its_input_ends(
    marker: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ignored: list[int] = []
    monkeypatch.setattr(signal, "signal", lambda number, _: ignored.append(number))
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{marker}\n"))
    with carrier(marker) as process:
        guardian.main()
        assert process.wait(WAIT_S) == -9
    assert capsys.readouterr().out == "watching\n"
    assert len(ignored) == 3


def test_without_a_marker_it_kills_nobody(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    guardian.main()
    assert capsys.readouterr().out == ""


def test_where_there_is_no_proc_it_asks_ps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: str) -> None:
    entry = f"{guardian.VARIABLE}={marker}"
    ps = tmp_path / "ps"
    ps.write_text(
        f"#!/bin/sh\necho '  PID COMMAND'\necho '  41 python x {entry} A=b'\necho '42 other {entry}0'\n", "utf-8"
    )
    ps.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(os.path, "isdir", lambda _: False)
    assert guardian.carriers(marker) == [41]


def test_it_holds_little_in_memory() -> None:
    """It is there all the while, so its modules are counted: those of an interpreter itself, and a few."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); import guardian; print(*sys.modules)"
    folder = str(Path(guardian.__file__).parent)
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", script, folder], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert loaded.isdisjoint({"subprocess", "threading", "pathlib", "re", "typing", "asyncio"})
    assert len(loaded) < 55
