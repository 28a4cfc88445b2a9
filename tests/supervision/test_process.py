"""Real children: their output, their groups, their end, and what outlives the core."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

import psutil
import pytest
from support.children import ENV, Events, python
from support.waiting import WAIT_S, bounded, gone, until, wait_gone, wait_until

from waifu_llm.supervision.guardian import VARIABLE
from waifu_llm.supervision.process import Processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX; Windows has its job object")


async def test_a_child_gets_input_and_gives_output_and_leaves_at_the_end_of_input(processes: Processes) -> None:
    events = Events()
    child = await processes.spawn(
        python("import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)"), ENV, events
    )
    child.write(b"hello\n")
    assert await events.line() == "HELLO"
    async with bounded():
        await child.stop()
    assert await events.end() == 0


async def test_the_last_words_of_a_dying_child_are_heard_before_its_end(processes: Processes) -> None:
    events = Events()
    await processes.spawn(
        python("import sys, os\nos.write(1, b'x' * 50000)\nos.write(2, b'why')\nos._exit(7)"), ENV, events
    )
    assert await events.end() == 7
    assert (len(events.out), events.err) == (50000, b"why")


async def test_what_a_child_wrote_is_heard_in_its_order_however_it_ends(processes: Processes) -> None:
    """W1, I2: what was read but not handed on yet when a child ended came after what its pipe still held."""
    said = "".join(f"line {number}\n" for number in range(5000)).encode()
    program = "import os, sys\nos.write(1, b''.join(b'line %d\\n' % n for n in range(5000)))\nos._exit(7)"
    events = Events()
    child = await processes.spawn(python(program), ENV, events)
    # Not awaited: the loop finds a full pipe and the end at once.
    wait_gone([child.pid])
    assert await events.end() == 7
    assert bytes(events.out) == said


async def test_what_a_child_says_is_told_in_the_turn_of_the_loop_that_reads_it(
    processes: Processes, tmp_path: Path
) -> None:
    said, events = tmp_path / "said", Events()
    program = f"""
        import os
        os.write(1, b"up\\n")
        os.read(0, 1)
        os.write(1, b"words")
        open({str(said)!r}, "w")
        os.read(0, 1)
    """
    child = await processes.spawn(python(program), ENV, events)
    assert await events.line() == "up"
    child.write(b"x")
    # Not awaited: the loop has not read it yet.
    wait_until(said.exists, "it has said it")
    # To the beginning of the turn that reads it, then of the next one, before what the first one left to it.
    for _ in range(2):
        assert events.out == b""
        await asyncio.sleep(0)
    assert events.out == b"words"
    await child.kill()


async def test_what_a_child_says_while_it_is_being_started_is_heard_before_what_it_says_then(
    processes: Processes, tmp_path: Path
) -> None:
    """I2: the first pieces wait in the loop's queue for a process that is there, all others are told at once."""
    up, events = tmp_path / "up", Events()
    program = f"import os\nopen({str(up)!r}, 'w')\nfor n in range(40000): os.write(1, b'%d\\n' % n)\nos.read(0, 1)"
    await processes.run(python("pass"), env=ENV)
    starting = asyncio.ensure_future(processes.spawn(python(program), ENV, events))
    async with bounded():
        while not children_of_ours():  # noqa: ASYNC110 - turn by turn
            await asyncio.sleep(0)
        # Not awaited: its pipe is full before the loop reads of it, and again at each turn.
        wait_until(up.exists, "it speaks")
        (child,) = children_of_ours()
        while events.out.count(b"\n") < 40000:
            wait_until(lambda: child.status() == psutil.STATUS_SLEEPING, "its pipe is full, or it has said all")
            await asyncio.sleep(0)
    await (await starting).kill()
    assert events.out == b"".join(b"%d\n" % number for number in range(40000))


async def test_a_child_that_closes_its_output_runs_on_and_its_end_is_told(processes: Processes) -> None:
    events = Events()
    program = "import os\nos.write(1, b'words')\nos.close(1)\nos.write(2, b'closed')\nos.read(0, 1)\nos._exit(3)"
    child = await processes.spawn(python(program), ENV, events)
    await until(lambda: events.err == b"closed", "it has closed its output")
    assert events.returncode is None
    child.write(b"x")
    assert (await events.end(), events.out) == (3, b"words")


async def test_nothing_is_left_of_a_child_that_has_ended(processes: Processes) -> None:
    """No collection of garbage is needed: what keeps account of it has heard of each pipe's end, and let go."""
    gc.disable()
    try:
        events = Events()
        child = weakref.ref(await processes.spawn(python("print('words', flush=True)"), ENV, events))
        assert await events.end() == 0
        await until(lambda: child() is None, "nobody has it any more")
    finally:
        gc.enable()


async def test_after_an_error_of_ours_with_a_piece_the_next_one_is_heard(processes: Processes) -> None:
    """The pipe stays open, and the loop is told."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context.get("exception")))
    broken = RuntimeError("a bug")

    class Fails(Events):
        def output(self, data: bytes) -> None:
            super().output(data)
            if not told:
                raise broken

    events = Fails()
    child = await processes.spawn(
        python("import sys\nfor line in sys.stdin: print(line, end='', flush=True)"), ENV, events
    )
    for word in ("one", "two"):
        child.write(word.encode() + b"\n")
        assert await events.line() == word
    await child.stop()
    assert told == [broken]


async def test_a_child_that_says_much_is_heard_in_small_pieces(processes: Processes) -> None:
    """I8: a full pipe of short lines, read at once, would keep the loop from everybody else."""
    pieces: list[int] = []

    class Pieces(Events):
        def output(self, data: bytes) -> None:
            pieces.append(len(data))

    events = Pieces()
    program = "import os, sys\nsys.stdin.readline()\nos.write(1, b'x' * 60000)\nsys.stdin.read()"
    child = await processes.spawn(python(program), ENV, events)
    child.write(b"go\n")
    await until(lambda: sum(pieces) == 60000, "all of it was heard")
    await child.kill()
    assert max(pieces) <= 8 * 1024


async def test_the_end_of_its_input_reaches_a_child_that_has_not_read_all_of_it(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W13: what lies unsent is given up, or the end would come after it, and never."""
    monkeypatch.setattr("waifu_llm.supervision.process.STEP_S", WAIT_S)
    events = Events()
    program = """
        import select
        poll = select.poll()
        poll.register(0, 0)
        print("up", flush=True)
        poll.poll()
    """
    child = await processes.spawn(python(program), ENV, events)
    assert await events.line() == "up"
    child.write(b"x" * 1_000_000)
    assert child.unsent
    async with bounded():
        await child.stop()
    assert await events.end() == 0


async def test_a_child_that_ignores_the_end_of_input_and_term_is_killed(processes: Processes) -> None:
    events = Events()
    child = await processes.spawn(
        python(
            "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\n"
            "while True: time.sleep(60)"
        ),
        ENV,
        events,
    )
    assert await events.line() == "up"
    async with bounded():
        await child.stop()
    assert await events.end() == -signal.SIGKILL


async def test_a_stopped_child_is_killed(processes: Processes) -> None:
    events = Events()
    child = await processes.spawn(python("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"), ENV, events)
    await until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED, "the child has stopped itself")
    async with bounded():
        await child.kill()
    assert await events.end() == -signal.SIGKILL


GRANDCHILD = """
    import subprocess, sys, time
    code = "import time; time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], start_new_session={new_session})
    print(child.pid, flush=True)
    {then}
"""


@pytest.mark.parametrize("new_session", [False, True])
async def test_a_grandchild_that_holds_the_pipes_does_not_hide_the_end_and_ends_with_its_parent(
    processes: Processes, new_session: bool
) -> None:
    if new_session and sys.platform != "linux":
        pytest.skip("a grandchild in a session of its own is adopted on Linux only; elsewhere the guardian ends it")
    events = Events()
    await processes.spawn(python(GRANDCHILD.format(new_session=new_session, then="")), ENV, events)
    grandchild = int(await events.line())
    assert await events.end() == 0
    await until(lambda: gone(grandchild), "the grandchild has ended")


async def test_children_of_others_are_left_alone_whenever_they_were_started(processes: Processes) -> None:
    """Not the mark of a child but that of none is what others get who are started after it."""
    sleeping = python("import time; time.sleep(600)")
    events = Events()
    bystanders = [subprocess.Popen(sleeping)]  # noqa: ASYNC220
    try:
        child = await processes.spawn(sleeping, ENV, events)
        bystanders.append(subprocess.Popen(sleeping))  # noqa: ASYNC220
        await child.kill()
        await processes.run(python("pass"), env=ENV)
        assert [bystander.poll() for bystander in bystanders] == [None, None]
    finally:
        for bystander in bystanders:
            bystander.kill()
            bystander.wait()


async def test_two_runs_in_one_process_leave_each_others_children_alone(processes: Processes) -> None:
    events = Events()
    async with Processes() as others:
        child = await others.spawn(python("import sys; sys.stdin.read()"), ENV, events)
        await processes.run(python("pass"), env=ENV)
        assert events.returncode is None
        await child.stop()
        assert await events.end() == 0


async def test_a_child_sees_only_the_given_environment_and_the_marker(processes: Processes) -> None:
    events = Events()
    await processes.spawn(python("import os; print(sorted(os.environ))"), {"ONLY": "this"}, events)
    await events.end()
    seen = events.out.decode()
    assert VARIABLE in seen
    assert "ONLY" in seen
    assert "PATH" not in seen


async def test_a_command_that_does_not_exist_is_an_oserror(processes: Processes) -> None:
    with pytest.raises(OSError, match="nowhere"):
        await processes.spawn(["/nowhere/at/all"], ENV, Events())


async def test_a_command_is_run_to_its_end_with_its_lines_as_they_come(processes: Processes) -> None:
    lines: list[str] = []
    done = await processes.run(
        python("import sys\nprint('out')\nprint('one', file=sys.stderr)\nprint('two', file=sys.stderr)\nsys.exit(3)"),
        env=ENV,
        on_line=lines.append,
    )
    assert (done.returncode, done.stdout, lines) == (3, "out\n", ["one", "two"])
    assert "two" in done.tail


async def test_a_silent_command_is_killed_after_its_time(processes: Processes) -> None:
    with pytest.raises(TimeoutError):
        await processes.run(python("import time; time.sleep(600)"), env=ENV, silence_s=0.05)
    assert not children_of_ours()


async def test_a_command_whose_caller_is_cancelled_is_killed(processes: Processes, tmp_path: Path) -> None:
    up = tmp_path / "up"
    task = asyncio.ensure_future(
        processes.run(python(f"import time; open({str(up)!r}, 'w'); time.sleep(600)"), env=ENV)
    )
    await until(up.exists, "the command runs")
    task.cancel()
    await asyncio.wait({task})
    assert not children_of_ours()


async def test_a_spawn_cancelled_at_any_step_leaves_no_process(processes: Processes) -> None:
    await processes.run(python("pass"), env=ENV)
    for steps in range(6):
        task = asyncio.ensure_future(processes.spawn(python("import time; time.sleep(600)"), ENV, Events()))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            await task.result().kill()
        assert not children_of_ours()


def children_of_ours() -> list[psutil.Process]:
    """Children that carry a marker; the guardian does not."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if VARIABLE in child.environ():
                found.append(child)
        except psutil.Error:
            continue
    return found


CORE = """
    import asyncio, os, sys
    sys.path.insert(0, {core!r})
    from waifu_llm.supervision.process import Processes

    class Events:
        def output(self, data): os.write(1, data)
        def errors(self, data): os.write(2, data)
        def exited(self, returncode): pass

    CHILD = '''
    import os, signal, subprocess, sys, time
    code = "import os, signal, time; print(os.getpid(), flush=True); {what}; time.sleep(600)"
    subprocess.Popen([sys.executable, "-I", "-S", "-c", code])
    subprocess.Popen([sys.executable, "-I", "-S", "-c", code], start_new_session=True)
    print(os.getpid(), flush=True)
    {what}
    time.sleep(600)
    '''

    async def main():
        processes = Processes()
        import textwrap
        argv = [sys.executable, "-I", "-S", "-c", textwrap.dedent(CHILD)]
        await processes.spawn(argv, dict(os.environ), Events())
        print("guardian", processes._guard.pid, flush=True)
        await asyncio.sleep(600)

    asyncio.run(main())
"""


@pytest.mark.parametrize("what", ["pass", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_nothing_outlives_a_core_that_is_killed(what: str) -> None:
    core = str(Path(__file__).resolve().parents[2] / "core")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CORE.format(core=core, what=what))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline().split() for _ in range(4)]
    pids = [int(words[-1]) for words in lines]
    assert sum(words[0] == "guardian" for words in lines) == 1
    assert all(psutil.pid_exists(pid) for pid in pids)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_gone(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets the core adopt them")
async def test_what_a_child_leaves_in_its_group_is_taken_away_and_no_zombie_stays(processes: Processes) -> None:
    for _ in range(5):
        events = Events()
        script = "(sleep 1000 & sleep 1000) & sleep 1000 & exit 0"
        child = await processes.spawn(["/bin/sh", "-c", script], ENV, events)
        await events.end()

        def is_gone(group: int = child.pid) -> bool:
            return not any(_group_of(left.pid) == group for left in psutil.Process().children(recursive=True))

        await until(is_gone, "nothing is left of the group, dead or alive")


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
