"""The fake web services as fixtures: in the test's own loop, or as a process."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from fakes.upstream.server import OpenAI, Upstream, running
from support.waiting import WAIT_S

SERVER: Final = Path(__file__).resolve().parents[1] / "fakes" / "upstream" / "server.py"


@pytest.fixture
async def openai_upstream() -> AsyncIterator[Upstream]:
    """A fake OpenAI; its API is at `url` + "/v1"."""
    async with running(OpenAI()) as upstream:
        yield upstream


@contextmanager
def upstream_process(api: str = "openai") -> Iterator[str]:
    """A fake service as a process; gives its address. What it has seen: GET `/__log`."""
    argv = [sys.executable, str(SERVER), "--api", api]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        finally:
            process.stdin.close()
            try:
                process.wait(WAIT_S)
            finally:
                process.kill()
