"""What every test of the catalogue of faults has: a canary key (P17) that must be found nowhere, and a census (I6)."""

import inspect
from collections.abc import Iterator

import msgspec
import pytest
from support.canary import Watch, watching

from waifu_client.protocol import AnyReply
from waifu_llm.server.writer import Writer


@pytest.fixture(autouse=True)
def watch(canary: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """The modules of this test have `canary` as their own key; it is in no message, log, file, argv or environment."""
    put = Writer.put
    with watching(canary) as watch:

        def watched(writer: Writer, reply: AnyReply) -> None:
            watch.look_at(f"a {type(reply).__name__}", msgspec.json.encode(reply))
            put(writer, reply)

        monkeypatch.setattr(Writer, "put", watched)
        yield watch
        assert watch.found == []


@pytest.fixture(autouse=True)
def census(request: pytest.FixtureRequest, no_leaks: None, no_temporary_files: None) -> None:
    """After the test there are as many descriptors, children, threads, tasks and temporary files as before it."""
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("no_tasks_left")
