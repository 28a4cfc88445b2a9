"""What one turn of the loop reads of a client: little, however much it sends, so that others need not wait."""

import pytest
from support.peer import connected
from support.serving import serving

from waifu_llm.server import arrivals
from waifu_llm.server.arrivals import Arriving


async def test_a_large_message_is_read_in_parts_and_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[int] = []
    received = Arriving.data_received

    def watched(self: Arriving, data: bytes) -> None:
        parts.append(len(data))
        received(self, data)

    monkeypatch.setattr(Arriving, "data_received", watched)
    async with serving() as running, connected(running.url) as peer:
        await peer.say("get_providers", pad="x" * 1_000_000)
        await peer.hear_types("get_providers_done")
    assert sum(parts) > 1_000_000
    assert max(parts) <= arrivals.MOST_READ_BYTES


async def test_what_others_read_meanwhile_is_not_mixed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """All connections read into one buffer; here it is so small that no message is in it whole."""
    monkeypatch.setattr(arrivals, "MOST_READ_BYTES", 7)
    async with serving() as running, connected(running.url) as one, connected(running.url) as other:
        for number in range(20):
            await one.say("get_providers", f"one {number}", pad="1" * number)
            await other.say("get_providers", f"other {number}", pad="2" * number)
        for number in range(20):
            assert (await one.hear())["unique_request_id"] == f"one {number}"
            assert (await other.hear())["unique_request_id"] == f"other {number}"
