"""A worker as a real process: what the core sees at the other end of its pipes."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.waiting import gone, wait_gone
from support.worker_process import FAKE, WorkerProcess, make_seed, running

from waifu_worker.wire import (
    MAX_LINE_BYTES,
    WIRE_VERSION,
    Beat,
    Cancel,
    ChatMessage,
    Chunk,
    Code,
    Done,
    Failed,
    Generate,
    Load,
    Models,
    OptionValue,
    Params,
    Ready,
)


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    return make_seed(tmp_path / "fake", FAKE)


@pytest.fixture
def fake(seed: Path) -> Iterator[WorkerProcess]:
    with running(seed) as worker:
        load(worker)
        yield worker


def load(
    worker: WorkerProcess, request_id: int = 1, ctx: int = 1, key: str | None = None, **options: OptionValue
) -> Done:
    worker.send(Load(id=request_id, ctx=ctx, api_key=key, options=options))
    _, end = worker.until_end(request_id)
    assert isinstance(end, Done), end
    return end


def ask(request_id: int, model_id: str, said: str = "hello there", *, stream: bool = True, ctx: int = 1) -> Generate:
    return Generate(
        id=request_id,
        ctx=ctx,
        params=Params(model_id=model_id),
        messages=(ChatMessage(role="user", content=said),),
        stream=stream,
    )


def test_the_first_line_is_ready_with_name_version_and_abilities(seed: Path) -> None:
    with running(seed, ready=False) as worker:
        assert worker.next() == Ready(magic="waifu-llm", wire=WIRE_VERSION, name="fake", abilities=("chat", "text"))


def test_every_way_of_printing_misses_the_wire_at_import_in_a_thread_and_in_a_child(seed: Path) -> None:
    with running(seed, env={"WAIFU_FAKE_START": "noise"}) as worker:
        load(worker, on_load="noise")
        worker.send(ask(2, "noise"))
        text, _ = worker.until_end(2)
        assert text == "hello there"
        assert worker.stderr.count("noise: print") == 6
        assert worker.stderr.count("noise: os.write") == 6
        assert worker.stderr.count("noise: a child") == 6


def test_the_whole_conversation_goes_over_the_pipes(fake: WorkerProcess) -> None:
    fake.send(Models(id=2, ctx=1), ask(3, "echo", "one two  three\n"), ask(4, "echo", "four five", stream=False))
    _, models = fake.until_end(2)
    assert isinstance(models, Done)
    assert models.models is not None
    assert [model.id for model in models.models] == ["echo"]
    text, end = fake.until_end(3)
    assert text == "one two  three\n"
    assert isinstance(end, Done)
    assert end.finish_reason == "stop"
    assert fake.next() == Chunk(id=4, texts=("four five",))
    assert isinstance(fake.next(), Done)


def test_a_cancelled_generation_ends_with_interrupt_and_the_next_one_works(fake: WorkerProcess) -> None:
    fake.send(ask(2, "hang=2"))
    assert [fake.next(), fake.next()] == [Chunk(id=2, texts=("0 ",)), Chunk(id=2, texts=("1 ",))]
    fake.send(Cancel(id=2), Cancel(id=2), Cancel(id=99))
    assert fake.next() == Failed(id=2, error=Code.INTERRUPT, message="cancelled")
    fake.send(ask(3, "echo"))
    assert fake.until_end(3)[0] == "hello there"


def test_a_cancel_in_the_same_write_as_its_generation_still_ends_it_once(fake: WorkerProcess) -> None:
    fake.send(ask(2, "echo"), Cancel(id=2), ask(3, "echo"))
    assert fake.next() == Failed(id=2, error=Code.INTERRUPT, message="cancelled")
    assert fake.until_end(3)[0] == "hello there"


def test_a_late_cancel_does_not_hit_the_next_request(fake: WorkerProcess) -> None:
    fake.send(ask(2, "echo"))
    fake.until_end(2)
    fake.send(ask(3, "echo"), Cancel(id=2))
    assert fake.until_end(3)[0] == "hello there"


def test_lines_that_are_no_message_are_skipped_and_logged_without_their_text(fake: WorkerProcess, canary: str) -> None:
    broken = (
        b"nonsense",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"type":"load","id":1,"ctx":1,"api_key":"%b"' % canary.encode(),
    )
    fake.input.write(b"\n".join(broken) + b"\n")
    fake.send(ask(2, "echo"))
    assert fake.until_end(2)[0] == "hello there"
    assert fake.stderr.count("skipped a line") == len(broken)
    assert canary not in fake.stderr


def test_the_end_of_the_input_ends_an_idle_worker(fake: WorkerProcess) -> None:
    fake.input.close()
    assert fake.wait() == 0


@pytest.mark.parametrize("model_id", ["hang=1", "ignore-cancel=1", "spin=1"])
def test_the_end_of_the_input_ends_a_worker_whatever_it_does(fake: WorkerProcess, model_id: str) -> None:
    fake.send(ask(2, model_id))
    fake.next()
    fake.input.close()
    assert fake.wait() == 0


def test_the_end_of_the_input_ends_a_worker_that_is_still_importing(seed: Path) -> None:
    with running(seed, env={"WAIFU_FAKE_START": "say=importing,never-ready"}, ready=False) as worker:
        worker.input.close()
        assert worker.wait() == 0


@pytest.mark.parametrize(
    ("flag", "code", "said"),
    [
        ("exit=7", 7, "SystemExit"),
        ("os-exit=5", 5, ""),
        ("raise", 1, "the fake worker raises at import"),
        ("missing-module", 1, "No module named 'waifu_no_such_module'"),
        ("segfault", -signal.SIGSEGV, ""),
    ],
)
def test_an_import_that_fails_ends_the_process_and_says_why(seed: Path, flag: str, code: int, said: str) -> None:
    with running(seed, env={"WAIFU_FAKE_START": flag}, ready=False) as worker:
        assert worker.output.read() == b""
        assert worker.wait() == code
        assert said in worker.stderr


def test_a_package_without_a_provider_ends_the_process_and_says_why(tmp_path: Path) -> None:
    package = tmp_path / "waifu_hollow"
    package.mkdir()
    (package / "__init__.py").touch()
    with running(make_seed(tmp_path / "hollow", package), ready=False) as worker:
        assert worker.wait() == 1
        assert "has no attribute 'Provider'" in worker.stderr


def test_what_is_asked_before_ready_is_answered_after_it(seed: Path) -> None:
    with running(seed, ready=False) as worker:
        worker.send(Load(id=1, ctx=1))
        assert isinstance(worker.next(), Ready)
        assert isinstance(worker.until_end(1)[1], Done)


def test_an_input_line_over_the_limit_ends_the_worker(fake: WorkerProcess) -> None:
    with contextlib.suppress(BrokenPipeError):
        for _ in range(MAX_LINE_BYTES // 65536 + 8):
            fake.input.write(b"x" * 65536)
    fake.wait()
    assert "over the limit" in fake.stderr


@pytest.mark.parametrize("flag", ["wrong-magic", "wrong-wire", "wrong-name", "not-ready"])
def test_the_fake_can_say_a_wrong_hello(seed: Path, flag: str) -> None:
    with running(seed, env={"WAIFU_FAKE_START": flag}, ready=False) as worker:
        assert worker.next() != Ready(magic="waifu-llm", wire=WIRE_VERSION, name="fake")


def test_no_core_dumps_and_no_inherited_pipes(fake: WorkerProcess) -> None:
    assert psutil.Process(fake.process.pid).rlimit(resource.RLIMIT_CORE) == (0, 0)
    folder = Path(f"/proc/{fake.process.pid}/fd")
    pipe = Path(f"/proc/self/fd/{fake.output.fileno()}").readlink()
    wire = [fd for fd in folder.iterdir() if fd.readlink() == pipe]
    assert [int(fd.name) for fd in wire if int(fd.name) < 3] == []
    for fd in wire:
        flags = (folder.parent / "fdinfo" / fd.name).read_text().split("flags:\t")[1].split()[0]
        assert int(flags, 8) & os.O_CLOEXEC


def test_a_worker_beats_while_its_loop_is_blocked(seed: Path) -> None:
    with running(seed) as worker:
        load(worker)
        worker.send(ask(2, "spin=0"))
        assert worker.next() == Beat()


def test_a_key_leaves_a_worker_neither_in_an_answer_nor_in_its_log(seed: Path, canary: str) -> None:
    with running(seed) as worker:
        load(worker, key=canary)
        worker.send(ask(2, "leak"))
        _, end = worker.until_end(2)
        assert isinstance(end, Failed)
        assert end.message.startswith("RuntimeError: GET https://example.org/?key=[redacted] failed")
        assert "RuntimeError" in worker.stderr
        assert canary not in end.message + worker.stderr
        environment = Path(f"/proc/{worker.process.pid}/environ").read_bytes()
        assert canary.encode() not in environment + Path(f"/proc/{worker.process.pid}/cmdline").read_bytes()


def test_a_full_pipe_stalls_the_text_but_neither_cancels_nor_the_reading(fake: WorkerProcess) -> None:
    """Nobody reads while the worker writes ten times what a pipe holds and gets ten times as much to read."""
    fake.send(ask(2, "count=100000"))
    for request_id in range(3, 13):
        fake.send(ask(request_id, "echo", "x" * 65536, stream=False), Cancel(id=request_id))
    fake.send(Cancel(id=2))
    ends: dict[int, Code] = {}
    while len(ends) < 11:
        message = fake.next()
        if isinstance(message, Failed):
            ends[message.id] = message.error
    assert set(ends.values()) == {Code.INTERRUPT}


def test_what_waited_for_the_pipe_arrives_whole_and_in_order(fake: WorkerProcess) -> None:
    fake.send(ask(2, "count=50000"), ask(3, "count=50000"))
    texts = {2: "", 3: ""}
    ended = 0
    while ended < 2:
        message = fake.next()
        if isinstance(message, Chunk):
            texts[message.id] += "".join(message.texts)
        else:
            assert isinstance(message, Done)
            ended += 1
    assert texts[2] == texts[3] == "".join(f"{n} " for n in range(50000))


def test_a_text_longer_than_a_line_is_cut_into_lines(fake: WorkerProcess) -> None:
    for request_id, stream in ((2, True), (3, False)):
        fake.send(ask(request_id, f"size={MAX_LINE_BYTES + 1}", stream=stream))
        text, end = fake.until_end(request_id)
        assert len(text) == MAX_LINE_BYTES + 1
        assert isinstance(end, Done)


def test_a_reader_that_goes_away_ends_the_worker(fake: WorkerProcess) -> None:
    fake.send(ask(2, "count=100000"))
    fake.next()
    fake.output.close()
    assert fake.wait() == 0


def test_a_worker_dies_with_its_parent_even_when_it_is_stopped(seed: Path, tmp_path: Path) -> None:
    """The parent is killed; neither the end of the input nor a poll would reach a stopped process."""
    pid_file = tmp_path / "pid"
    program = (
        "import subprocess, sys, pathlib, time\n"
        f"argv = [sys.executable, '-I', {str(seed)!r}]\n"
        "worker = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "worker.stdout.readline()\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(worker.pid))\n"
        "print('ready', flush=True)\n"
        "time.sleep(1000)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGSTOP)
    finally:
        parent.kill()
        parent.wait()
        assert parent.stdout is not None
        parent.stdout.close()
    wait_gone([pid])
    assert gone(pid)


COUNTING = """
import gc
from waifu_worker import provider
from waifu_worker.provider import LoadResult
from waifu_worker.wire import ModelInfo


class Provider(provider.Provider):
    async def models(self):
        return ()

    async def generate(self, request):
        yield ""

    async def load(self, request):
        said = gc.get_freeze_count(), len(gc.get_objects()), gc.isenabled()
        return LoadResult([ModelInfo(id=str(one)) for one in said])
"""


def test_a_collection_in_a_worker_does_not_look_at_what_it_has_imported(tmp_path: Path) -> None:
    package = tmp_path / "waifu_counting"
    package.mkdir()
    (package / "__init__.py").write_text(COUNTING)
    with running(make_seed(tmp_path / "seed", package)) as worker:
        frozen, others, enabled = load(worker).models or ()
    assert int(frozen.id) > 5000
    assert int(others.id) < 1000
    assert enabled.id == "True"
