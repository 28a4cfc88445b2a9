"""Server-sent events, whole buffers at once."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waifu_worker.sse import Event, EventSplitter, EventTooLong


def events(*reads: bytes) -> list[Event]:
    """All events of a stream that came in these reads."""
    splitter = EventSplitter()
    found = [event for read in reads for event in splitter.feed(read)]
    return [*found, *splitter.finish()]


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (b"", []),
        (b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
        (b"data:a\n\n", [(b"", b"a")]),
        (b"data:  a\n\n", [(b"", b" a")]),
        (b"data\n\n", [(b"", b"")]),
        (b"data: a\ndata: b\n\n", [(b"", b"a\nb")]),
        (b"event: error\ndata: a\n\n", [(b"error", b"a")]),
        (b"data: a\nevent:error\n\n", [(b"error", b"a")]),
        (b"id: 1\nretry: 3\ndata: a\nunknown: x\n\n", [(b"", b"a")]),
        (b": comment\n\n\n\n:\ndata: a\n\n", [(b"", b"a")]),
        (b"event: ping\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")]),
        (b"data: a\r\rdata: b\r\r", [(b"", b"a"), (b"", b"b")]),
        (b"data: a\n\r\ndata: b\r\n\n", [(b"", b"a"), (b"", b"b")]),
        (b"data: a", [(b"", b"a")]),
        (b"data: a\n", [(b"", b"a")]),
        ("data: a\u2028b\u0085c\x0b\x0c\n\n".encode(), [(b"", "a\u2028b\u0085c\x0b\x0c".encode())]),
    ],
)
def test_a_stream_has_these_events_however_it_is_cut(stream: bytes, found: list[Event]) -> None:
    assert events(stream) == found
    assert events(*(bytes([byte]) for byte in stream)) == found
    for place in range(len(stream)):
        assert events(stream[:place], stream[place:]) == found


line = st.sampled_from([b"data: ", b"data:", b"event: e", b": c", b"id: 1", b"", b"data: \xc3\xa9", b"x"])
end = st.sampled_from([b"\n", b"\r", b"\r\n"])


@given(st.lists(st.tuples(line, end)), st.lists(st.integers(0, 200)))
def test_cuts_never_change_the_events(lines: list[tuple[bytes, bytes]], places: list[int]) -> None:
    stream = b"".join(text + newline for text, newline in lines)
    cuts = [0, *sorted(place for place in places if place <= len(stream)), len(stream)]
    reads = [stream[start:stop] for start, stop in pairwise(cuts)]
    assert events(*reads) == events(stream)


def test_events_come_as_soon_as_they_are_whole() -> None:
    splitter = EventSplitter()
    assert list(splitter.feed(b"data: a\r\n\r")) == [(b"", b"a")]
    assert list(splitter.feed(b"\ndata: b\n")) == []
    assert list(splitter.feed(b"\n")) == [(b"", b"b")]
    assert list(splitter.finish()) == []


def test_an_event_over_the_limit_is_refused_before_it_ends() -> None:
    splitter = EventSplitter(limit=10)
    assert list(splitter.feed(b"data: a\n\ndata: b")) == [(b"", b"a")]
    assert list(splitter.feed(b"c")) == []
    with pytest.raises(EventTooLong, match="10 bytes"):
        splitter.feed(b"defghi")
