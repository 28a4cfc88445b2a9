"""Commands that are run to their end, or to their first line, and what is kept of them."""

import sys
from collections.abc import Mapping, Sequence

import pytest
from support.children import ENV, python
from support.waiting import WAIT_S, bounded

from waifu_llm.supervision.collector import TAIL_BYTES, Collector
from waifu_llm.supervision.process import Child, Processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="paths and exit codes are POSIX's")


async def test_a_command_that_is_run_until_its_first_line_hears_the_end_of_its_input_then(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waifu_llm.supervision.process.STEP_S", WAIT_S)
    program = "import sys\nprint('not yet', file=sys.stderr)\nprint('up', flush=True)\nsys.stdin.read()\nsys.exit(3)"
    async with bounded():
        done = await processes.run(python(program), env=ENV, until_line=True)
    assert (done.returncode, done.stdout) == (3, "up\n")


async def test_a_first_line_that_comes_while_the_command_is_still_being_started_counts(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = processes._start

    async def slowly(argv: Sequence[str], env: Mapping[str, str], events: Collector, *more: int) -> Child:
        child = await start(argv, env, events, *more)
        while not events.stdout:
            events.heard.clear()
            await events.heard.wait()
        return child

    monkeypatch.setattr(processes, "_start", slowly)
    async with bounded():
        done = await processes.run(
            python("import sys\nprint('up', flush=True)\nsys.stdin.read()"), env=ENV, until_line=True
        )
    assert done.stdout == "up\n"


async def test_a_command_that_ends_before_its_first_line_is_not_waited_for(processes: Processes) -> None:
    async with bounded():
        done = await processes.run(
            python("import sys\nsys.stdout.write('half')\nsys.exit(4)"), env=ENV, until_line=True
        )
    assert (done.returncode, done.stdout) == (4, "half")


async def test_a_command_that_writes_without_end_and_no_line_is_ended(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its silence never comes."""
    monkeypatch.setattr("waifu_llm.supervision.process.STEP_S", WAIT_S)
    program = """
        import os, select, sys
        while not select.select([0], [], [], 0)[0]:
            os.write(1, b"x" * 4096)
        sys.exit(3)
    """
    async with bounded():
        done = await processes.run(python(program), env=ENV, until_line=True)
    assert done.returncode == 3
    assert TAIL_BYTES <= len(done.stdout) < 2 * TAIL_BYTES


async def test_of_what_a_command_writes_after_its_first_line_nothing_is_kept(processes: Processes) -> None:
    program = """
        import sys
        print("up", flush=True)
        sys.stdin.read()
        sys.stdout.write("x" * 1_000_000 + "the end")
    """
    async with bounded():
        done = await processes.run(python(program), env=ENV, until_line=True)
    assert (done.returncode, done.stdout) == (0, "up\n")
    assert done.tail.endswith("xthe end")


async def test_of_what_a_command_said_the_last_is_kept(processes: Processes) -> None:
    done = await processes.run(python("import sys\nsys.stderr.write('x' * 200_000 + 'the end')"), env=ENV)
    assert len(done.tail) == TAIL_BYTES
    assert done.tail.endswith("xthe end")


async def test_of_what_has_ended_or_never_started_nothing_is_kept(processes: Processes) -> None:
    await processes.run(python("pass"), env=ENV)
    with pytest.raises(OSError, match="nowhere"):
        await processes.run(["/nowhere/at/all"], env=ENV)
    assert (processes._children, processes._living) == (set(), set())
