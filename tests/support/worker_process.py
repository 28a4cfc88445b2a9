"""A real worker process as the core starts it, driven over its pipes: a folder like a seed, and `python -I`."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support.piped_process import PipedProcess, started

from waifu_worker.framing import decode_from_worker, encode
from waifu_worker.wire import Chunk, Done, Failed, FromWorker, Ready, ToWorker

ROOT = Path(__file__).resolve().parents[2]
ECHO = ROOT / "workers" / "echo" / "waifu_echo"
FAKE = ROOT / "tests" / "fakes" / "worker" / "waifu_fake"

_MAIN = """from waifu_worker import stdio

pipes = stdio.claim()

from waifu_worker import late

late.postpone(late.IN_A_WORKER)

from waifu_worker.runtime import run

run(pipes, name={name!r}, package={package!r}, abilities=("chat", "text"))
"""


def make_seed(folder: Path, package: Path) -> Path:
    """A folder that runs the worker whose import package lies at `package`."""
    folder.mkdir()
    (folder / "waifu_worker").symlink_to(ROOT / "core" / "waifu_worker", target_is_directory=True)
    (folder / package.name).symlink_to(package, target_is_directory=True)
    name = package.name.removeprefix("waifu_")
    (folder / "__main__.py").write_text(_MAIN.format(name=name, package=package.name))
    return folder


class WorkerProcess(PipedProcess[FromWorker]):
    """One worker."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        super().__init__(process, log, decode_from_worker)

    def send(self, *messages: ToWorker) -> None:
        """All in one write."""
        data = memoryview(b"".join(map(encode, messages)))
        while data:
            data = data[self.input.write(data) :]

    def next(self) -> FromWorker:
        """The next message."""
        message = self.heard()
        assert message is not None, f"it ended: {self.stderr[-2000:]}"
        return message

    def until_end(self, request_id: int) -> tuple[str, Done | Failed]:
        """The text of one request up to its end; other requests' messages are an error."""
        text = ""
        while True:
            match self.next():
                case Chunk(id=one, texts=pieces) if one == request_id:
                    text += "".join(pieces)
                case (Done(id=one) | Failed(id=one)) as end if one == request_id:
                    return text, end
                case other:
                    raise AssertionError(f"unexpected: {other}")


@contextmanager
def running(seed: Path, *, env: Mapping[str, str] | None = None, ready: bool = True) -> Iterator[WorkerProcess]:
    """Start it; it and its group are killed in the end."""
    with started(seed, env) as (process, log):
        worker = WorkerProcess(process, log)
        if ready:
            first = worker.next()
            assert isinstance(first, Ready), first
        yield worker
