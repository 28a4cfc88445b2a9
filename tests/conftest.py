"""What all tests have: a home of their own, an environment without anybody's keys, a canary key (P17), a loop."""

import asyncio
import gc
import os
import re
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from support.canary import Watch, watching
from support.environments import ROOTS, SharedEnvironments
from support.virtual_loop import VirtualLoop
from support.waiting import gone, until, wait_until

from waifu_client.protocol import AnyReply
from waifu_llm.server.writer import Writer

# Each worker's folder is an import root of its own, as its seed is; `workers/` itself is none.
sys.path.extend(str(manifest.parent) for root in ROOTS for manifest in sorted(root.glob("*/pyproject.toml")))

# Started in the background by a script (`python3 scripts/test.py &`) all of us would ignore Ctrl-C, and so would the
# programs that the tests press it in.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Whatever could bring the user's keys, services or settings into a test.
_PRIVATE = re.compile(
    r"(_API_KEY|_TOKEN|_BASE_URL|_HOST|_SECRET|_PROXY)$|^(WAIFU_LLM_|OPENAI_|GROQ_|OLLAMA_|HF_)", re.I
)


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Time is the machine's, or the test's own (`pytest.mark.virtual_time`)."""
    virtual = item.get_closest_marker("virtual_time") is not None
    return {"virtual": VirtualLoop} if virtual else {"real": asyncio.new_event_loop}


def pytest_collection_finish() -> None:
    """What was there before the first test stays: no census walks through it, which takes a tenth of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This test's WAIFU_LLM_HOME, empty and not made yet; also for every child that inherits the environment."""
    for name in [name for name in os.environ if _PRIVATE.search(name)]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("WAIFU_LLM_HOME", str(home))
    return home


@pytest.fixture
def canary() -> str:
    """A key that exists in this test only: found anywhere, it has leaked."""
    return f"canary-{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def watch(request: pytest.FixtureRequest, canary: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """The modules of this test have `canary` as their own key, unless it is marked `keyless`; it is in no message, log,
    file, argv or environment.
    """
    put = Writer.put
    with watching(canary, plants=request.node.get_closest_marker("keyless") is None) as watch:

        def watched(writer: Writer, reply: AnyReply) -> None:
            watch.look_at(f"a {type(reply).__name__}", msgspec.json.encode(reply))
            put(writer, reply)

        monkeypatch.setattr(Writer, "put", watched)
        yield watch
        assert watch.found == []


def _open_descriptors(process: psutil.Process) -> int:
    if sys.platform == "win32":
        return process.num_handles()
    return process.num_fds()


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """After the test as many descriptors, children and threads as before it."""
    process = psutil.Process()

    def census() -> tuple[int, int, int]:
        gc.collect()
        # What a module leaves that a test kills comes to this process, which does not know it and waits for none of it.
        children = [child for child in process.children(recursive=True) if not gone(child.pid)]
        return _open_descriptors(process), len(children), threading.active_count()

    before = census()
    yield
    wait_until(lambda: all(now <= then for now, then in zip(census(), before, strict=True)), f"back at {before}")


@pytest.fixture
async def no_tasks_left() -> AsyncIterator[None]:
    """After the test nobody is left in its loop."""
    yield
    own = asyncio.current_task()
    await until(lambda: asyncio.all_tasks() == {own}, "no other task is left")


@pytest.fixture
def no_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After the test the folder for temporary files, one of its own, is as empty as before, for all its children."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield
    assert [file.name for file in folder.iterdir()] == []


@pytest.fixture(scope="session")
def shared_environments(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> SharedEnvironments:
    """Environments that are built once for the whole run, in a folder that all of xdist's workers share."""
    own = tmp_path_factory.getbasetemp()
    return SharedEnvironments((own if worker_id == "master" else own.parent) / "environments")


@pytest.fixture
def installed(home: Path, shared_environments: SharedEnvironments) -> Callable[..., None]:
    """`installed("echo", "fake")`: this test's home has their environments, so that a load need not build."""

    def install(*names: str) -> None:
        shared_environments.install(home, *names)

    return install
