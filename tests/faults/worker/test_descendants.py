"""W14, I3: what a worker leaves behind ends with it and with the core, whatever it did to its session and variables."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support.children import ENV, Events, python
from support.waiting import WAIT_S, until, wait_gone

from waifu_llm.supervision import guard, orphans
from waifu_llm.supervision.process import Child, Processes

CORE = Path(__file__).resolve().parents[3] / "core"

# A descendant that says its pid and stays: by one fork or two, in its parent's session or its own, with its parent's
# variables or none.
LEAVES = """
    import subprocess, sys
    code = '''if 1:
        import os, time
        if {forks} == 2 and os.fork():
            os._exit(0)
        print(os.getpid(), flush=True)
        time.sleep(600)
    '''
    subprocess.Popen([sys.executable, "-I", "-S", "-c", code], start_new_session={session}, env={env})
"""
READS = "    sys.stdin.read()\n"
WAYS = [
    pytest.param(forks, session, env, id=f"{forks}-{'own-session' if session else 'session'}-{env}")
    for forks in (1, 2)
    for session in (False, True)
    for env in ("None", "{}")
]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has marks and lets the core adopt")


@pytest.fixture
async def processes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Processes]:
    """They hear of every end; nobody here is ended or taken away only because somebody looks from time to time."""
    monkeypatch.setattr("waifu_llm.supervision.process._LOOK_INTERVAL_S", 3600.0)
    async with Processes() as made:
        yield made


@pytest.fixture
def often(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks from time to time after all."""
    monkeypatch.setattr("waifu_llm.supervision.process._LOOK_INTERVAL_S", 0.02)


def is_no_child(pid: int) -> bool:
    """Neither alive nor a zombie of ours."""
    return not psutil.pid_exists(pid)


@pytest.mark.parametrize(("forks", "session", "env"), WAYS)
async def test_w14_what_a_worker_started_ends_with_it(
    processes: Processes, forks: int, session: bool, env: str
) -> None:
    events = Events()
    script = LEAVES.format(forks=forks, session=session, env=env) + READS
    child = await processes.spawn(python(script), ENV, events)
    left = int(await events.line())
    await child.stop()
    await until(lambda: is_no_child(left), "what it left has ended and is no zombie")


async def test_w14_what_a_living_worker_keeps_in_the_background_outlives_another_worker(processes: Processes) -> None:
    keeper, other = Events(), Events()
    script = LEAVES.format(forks=2, session=True, env={}) + READS
    keeping = await processes.spawn(python(script), ENV, keeper)
    kept = int(await keeper.line())
    await until(lambda: psutil.Process(kept).ppid() == os.getpid(), "it is adopted")
    await processes.spawn(python(script), ENV, other)
    left = int(await other.line())
    await processes.run(python("pass"), env=ENV)
    assert psutil.pid_exists(kept)
    assert psutil.pid_exists(left)
    await keeping.kill()
    await until(lambda: is_no_child(kept), "it has ended with its own worker")
    assert psutil.pid_exists(left)


async def test_w14_an_orphan_that_starts_others_as_it_is_killed_leaves_none(processes: Processes) -> None:
    events = Events()
    script = """
        import subprocess, sys
        code = '''if 1:
            import os, subprocess, sys, time
            again = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
            for _ in range(3):
                subprocess.Popen([sys.executable, "-I", "-S", "-c", again], start_new_session=True, env={})
            time.sleep(600)
        '''
        subprocess.Popen([sys.executable, "-I", "-S", "-c", code], start_new_session=True, env={})
        sys.stdin.read()
    """
    child = await processes.spawn(python(script), ENV, events)
    left = [int(await events.line()) for _ in range(3)]
    await child.kill()
    await until(lambda: all(map(is_no_child, left)), "the whole tree has ended")


@pytest.mark.usefixtures("often")
async def test_w14_a_descendant_that_cannot_be_killed_at_once_holds_nobody_up(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = Events()
    with monkeypatch.context() as stuck:
        stuck.setattr("waifu_llm.supervision.orphans.os.kill", lambda pid, number: None)
        child = await processes.spawn(python(LEAVES.format(forks=1, session=True, env={}) + READS), ENV, events)
        left = int(await events.line())
        await child.kill()
        await processes.run(python("pass"), env=ENV)
        assert psutil.pid_exists(left)
    await until(lambda: is_no_child(left), "it is tried again, and has ended")


async def test_i3_an_adopted_one_that_ends_by_itself_is_taken_away_at_once_while_its_worker_lives(
    processes: Processes,
) -> None:
    """It stayed as a zombie until the next look, for as long as a zombie may: nothing else of ours may have ended."""
    child, left = await leaving_one(processes)
    os.kill(left, signal.SIGKILL)
    await until(lambda: is_no_child(left), "it was waited for")
    await child.stop()


async def test_i3_another_run_on_the_same_loop_takes_no_hearing_while_it_lasts_nor_when_it_ends(
    processes: Processes,
) -> None:
    (child, left), (other_child, other_left) = await leaving_one(processes), await leaving_one(processes)
    async with Processes() as another:
        await another.run(python("pass"), env=ENV)
        os.kill(left, signal.SIGKILL)
        await until(lambda: is_no_child(left), "it was waited for beside the other run")
    os.kill(other_left, signal.SIGKILL)
    await until(lambda: is_no_child(other_left), "it was waited for after the other run")
    await child.stop()
    await other_child.stop()


@pytest.mark.usefixtures("often")
async def test_i3_where_another_hears_of_ended_children_who_was_adopted_is_no_zombie_for_long(
    processes: Processes,
) -> None:
    child, left = await leaving_one(processes)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
    os.kill(left, signal.SIGKILL)
    await until(lambda: is_no_child(left), "it was waited for")
    await child.stop()


async def leaving_one(processes: Processes) -> tuple[Child, int]:
    """A worker, and the pid of what it keeps in the background, which is adopted by now."""
    events = Events()
    child = await processes.spawn(python(LEAVES.format(forks=2, session=True, env={}) + READS), ENV, events)
    left = int(await events.line())
    await until(lambda: psutil.Process(left).ppid() == os.getpid(), "it is adopted")
    return child, left


def test_r7_a_loop_that_hears_no_signals_starts_and_ends_children_all_the_same() -> None:
    """Only the main thread's does."""

    async def run() -> int:
        async with Processes() as processes:
            return (await processes.run(python("raise SystemExit(7)"), env=ENV)).returncode

    with ThreadPoolExecutor() as pool:
        assert pool.submit(asyncio.run, run()).result(WAIT_S) == 7


def test_w14_where_no_signals_are_heard_generation_after_generation_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """I3: who is killed leaves its children to the core, and they theirs. The command `chat` has such a loop."""
    monkeypatch.setattr("waifu_llm.supervision.process._LOOK_INTERVAL_S", 3600.0)
    script = """
        import os, sys, time
        worker = os.getpid()
        for _ in range(3):
            if os.fork():
                break
            os.setsid()
        print(os.getpid(), flush=True)
        sys.stdin.read() if os.getpid() == worker else time.sleep(600)
    """

    async def run() -> None:
        async with Processes() as processes:
            events = Events()
            child = await processes.spawn(python(script), ENV, events)
            family = [int(await events.line()) for _ in range(4)]
            await child.stop()
            await until(lambda: all(map(is_no_child, family)), "the whole line has ended")

    with ThreadPoolExecutor() as pool:
        pool.submit(asyncio.run, run()).result(2 * WAIT_S)


@contextmanager
def core(script: str) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    """A core with one child of that script, whose third and last line of pids has been heard."""
    program = f"""
        import asyncio, os, sys
        sys.path.insert(0, {str(CORE)!r})
        from waifu_llm.supervision.process import Processes

        class Events:
            def output(self, data): os.write(1, data)
            def errors(self, data): os.write(2, data)
            def exited(self, returncode): pass

        async def main():
            processes = Processes()
            child = await processes.spawn({python(script)!r}, {{}}, Events())
            print(child.pid, flush=True)
            print(processes._guard.pid, flush=True)
            await asyncio.sleep(600)

        asyncio.run(main())
    """
    argv = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, [int(process.stdout.readline()) for _ in range(3)]
        finally:
            process.kill()


@pytest.mark.parametrize("forks", [1, 2])
def test_r10_a_descendant_without_variables_in_its_own_session_does_not_outlive_a_core_that_is_killed(
    forks: int,
) -> None:
    with core(LEAVES.format(forks=forks, session=True, env={}) + READS) as (process, pids):
        process.kill()
        process.wait()
        wait_gone(pids)


async def test_r7_a_guardian_that_does_not_come_up_fails_the_spawn_and_the_next_one_tries_again(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(guard, "GREETING_S", 0.05)
    for number, what in enumerate(("exec sleep 600", "exit 0")):
        interpreter = tmp_path / f"python{number}"
        interpreter.write_text(f"#!/bin/sh\n{what}\n")
        interpreter.chmod(0o755)
        with monkeypatch.context() as stalled:
            stalled.setattr(sys, "executable", str(interpreter))
            attempts = [processes.spawn(["/bin/true"], ENV, Events()) for _ in range(3)]
            ends = await asyncio.gather(*attempts, return_exceptions=True)
            assert [isinstance(end, OSError) for end in ends] == [True] * 3
            assert "guardian" in str(ends[0])
    monkeypatch.setattr(guard, "GREETING_S", 60.0)
    assert (await processes.run(python("pass"), env=ENV)).returncode == 0


async def test_r7_who_does_not_wait_for_the_guardian_any_more_lets_it_come_up_for_the_others(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    interpreter, up, go = tmp_path / "python", tmp_path / "up", tmp_path / "go"
    os.mkfifo(go)
    may_go = os.open(go, os.O_RDWR)
    interpreter.write_text(f'#!/bin/sh\n: > {up}\nread line < {go}\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    events = Events()
    with monkeypatch.context() as waiting:
        waiting.setattr(sys, "executable", str(interpreter))
        leaving, staying = (asyncio.ensure_future(processes.spawn(["/bin/true"], ENV, events)) for _ in range(2))
        await until(up.exists, "the guardian is being started")
        leaving.cancel()
        await asyncio.wait({leaving})
        os.write(may_go, b"go\n")
        os.close(may_go)
        await staying
    assert leaving.cancelled()
    assert await events.end() == 0


async def test_r7_a_core_that_ends_while_its_guardian_comes_up_leaves_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    interpreter, up = tmp_path / "python", tmp_path / "up"
    interpreter.write_text(f"#!/bin/sh\necho $$ > {up}.new && mv {up}.new {up}\nexec sleep 600\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    async with Processes() as processes:
        spawning = asyncio.ensure_future(processes.spawn(["/bin/true"], ENV, Events()))
        await until(up.exists, "the guardian is being started")
    await asyncio.wait({spawning})
    assert spawning.cancelled()
    wait_gone([int(up.read_text())])


async def test_w14_without_the_kernels_lists_of_children_all_processes_are_looked_at(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(orphans, "_TASKS", tmp_path / "nowhere")
    events = Events()
    child = await processes.spawn(python(LEAVES.format(forks=2, session=True, env={}) + READS), ENV, events)
    left = int(await events.line())
    await child.stop()
    await until(lambda: is_no_child(left), "what it left has ended")


async def test_where_marks_may_not_be_set_a_group_ends_with_its_worker_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """I3: a sandbox may know no such limit; then what is left in the group of a child is known by that alone."""

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("waifu_llm.supervision.orphans.resource.setrlimit", refused)
    async with Processes() as processes:
        events = Events()
        child = await processes.spawn(python(LEAVES.format(forks=2, session=False, env={}) + READS), ENV, events)
        left = int(await events.line())
        await child.stop()
        assert await events.end() == 0
        await until(lambda: is_no_child(left), "what it left in its group has ended and is no zombie")
