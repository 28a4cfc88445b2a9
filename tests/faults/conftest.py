"""What every test of the catalogue of faults has: a canary key (P17) that must be found nowhere."""

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
