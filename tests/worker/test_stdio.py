"""The guard, in processes of its own: whoever prints, nothing reaches the wire."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_GUARDED = """
import sys
sys.path.insert(0, {core!r})
before = set(sys.modules)
from waifu_worker import stdio
pipes = stdio.claim()
extra = set(sys.modules) - before
import os, subprocess
"""


def guarded(program: str, said: bytes = b"", *, more: str = "") -> "subprocess.CompletedProcess[bytes]":
    """Run a program behind the guard; `more` is shell that wraps it."""
    source = _GUARDED.format(core=str(ROOT / "core")) + program
    argv = [sys.executable, "-I", "-c", source]
    if more:
        argv = ["/bin/sh", "-c", more, "sh", *argv]
    return subprocess.run(argv, input=said, capture_output=True, check=True)


def test_the_wire_is_the_old_input_and_output() -> None:
    done = guarded("os.write(pipes.sink, os.read(pipes.source, 100).upper())", b"hello")
    assert done.stdout == b"HELLO"
    assert done.stderr == b""


def test_every_print_lands_on_stderr_at_once_and_in_any_language() -> None:
    done = guarded(
        "print('é😀 \\ud800')\n"
        "os.write(1, b'raw\\n')\n"
        "subprocess.run([sys.executable, '-c', 'print(\"child\")'], check=True)\n"
        "os._exit(0)\n"
    )
    assert done.stdout == b""
    assert done.stderr == "é😀 \\ud800\nraw\nchild\n".encode()


def test_the_input_of_the_provider_and_its_children_is_empty() -> None:
    done = guarded(
        "argv = [sys.executable, '-c', 'import sys; print(len(sys.stdin.read()))']\n"
        "child = subprocess.run(argv, capture_output=True)\n"
        "os.write(pipes.sink, repr((sys.stdin.read(), child.stdout)).encode())",
        b"never seen",
    )
    assert done.stdout == rb"('', b'0\n')"


def test_no_child_inherits_the_wire() -> None:
    done = guarded(
        "assert not os.get_inheritable(pipes.source)\n"
        "assert not os.get_inheritable(pipes.sink)\n"
        "assert min(pipes.source, pipes.sink) > 2\n"
    )
    assert done.returncode == 0


def test_nothing_of_weight_is_imported_before_the_guard_stands() -> None:
    done = guarded("os.write(pipes.sink, ' '.join(sorted(extra)).encode())")
    assert set(done.stdout.decode().split()) == {"gc", "resource", "waifu_worker", "waifu_worker.stdio"}


def test_a_closed_stderr_does_no_harm() -> None:
    done = guarded("print('lost')\nos.write(pipes.sink, b'fine')", more='exec "$@" 2>&-')
    assert done.stdout == b"fine"


def test_core_dumps_are_off() -> None:
    done = guarded("import resource\nos.write(pipes.sink, repr(resource.getrlimit(resource.RLIMIT_CORE)).encode())")
    assert done.stdout == b"(0, 0)"
