"""What is fuzzed of what comes over sockets and pipes. Each check holds more than that nothing raises."""

import json
import re
from collections.abc import Callable
from typing import Any, Final

from support.fuzz.engine import Target
from support.fuzz.roots import add_import_roots
from support.talk import Talk

from waifu_client.protocol import encode_reply
from waifu_llm.redaction import MASK, Redactor
from waifu_llm.session.effects import Send
from waifu_worker.chat_stream import AnswerReader as ChatReader
from waifu_worker.doors import Doors, Listed
from waifu_worker.framing import (
    DECODE_ERRORS,
    LineSplitter,
    LineTooLong,
    decode_from_gateway,
    decode_from_worker,
    decode_to_gateway,
    decode_to_worker,
    encode,
)
from waifu_worker.provider import ProviderError
from waifu_worker.scrub import Scrubber
from waifu_worker.sse import EventSplitter
from waifu_worker.upstream import Upstream
from waifu_worker.wire import Done

add_import_roots()

from waifu_novelai.events import TokenReader  # noqa: E402 - their roots are added above
from waifu_ollama.lines import AnswerReader as OllamaReader  # noqa: E402

_SHORT_LIMIT: Final = 200
_TOKEN: Final = "a token of this run"
_UPSTREAM: Final = Upstream("Acme", "https://api.acme.example/v1")
_LOOPBACK: Final = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[[0-9a-f:.]+\])(:\d{1,5})?", re.ASCII)
_PAGE: Final = re.compile(rf"https?://{_LOOPBACK.pattern}", re.ASCII)
_JSON_WORDS: Final = (
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"true", b"NaN", b"1e999", b"-1", b"9" * 40, b"\\ud800"),
    *(b"\\u0000", b"\xff", b"\xef\xbb\xbf", b"[" * 1000, b'{"a":' * 200, b"\n", b"\r\n", b"\xe2\x80\xa8"),
)


def pieces(data: bytes) -> list[bytes]:
    """The data as it may come over a network: its first byte says in pieces of which size."""
    if not data:
        return []
    size, data = data[0] + 1, data[1:]
    return [data[start : start + size] for start in range(0, len(data), size)]


def _client_messages(data: bytes) -> None:
    """A session answers whatever comes with replies that can be sent, and goes on."""
    talk = Talk()
    for message in (data, data.decode("utf-8", "replace"), b'{"type":"interrupt","unique_request_id":"after"}'):
        effects = talk.raw(message)
        replies = [effect.reply for effect in effects if isinstance(effect, Send)]
        for reply in replies:
            if reply is not None:
                json.loads(encode_reply(reply))
    assert [effect.reply.unique_request_id for effect in effects if isinstance(effect, Send) and effect.reply] == [
        "after"
    ]


def _worker_lines(data: bytes) -> None:
    """The lines do not depend on how the bytes come; one over the limit is refused, and no other."""
    splitter, lines, refused = LineSplitter(_SHORT_LIMIT), [], False
    try:
        for piece in pieces(data):
            lines += splitter.feed(piece)
    except LineTooLong:
        refused = True
    *whole, rest = data[1:].split(b"\n")
    if refused:
        assert any(len(line) > _SHORT_LIMIT for line in (*whole, rest))
        assert lines == whole[: len(lines)]
    else:
        assert lines == whole
        assert len(rest) <= _SHORT_LIMIT


def _wire_messages(data: bytes) -> None:
    """What is read is written and read again as the same; what isn't raises one of three errors."""
    decoders: tuple[Callable[[bytes], Any], ...] = (
        decode_to_worker,
        decode_from_worker,
        decode_to_gateway,
        decode_from_gateway,
    )
    for decode in decoders:
        try:
            message = decode(data)
        except DECODE_ERRORS:
            continue
        again = decode(encode(message).removesuffix(b"\n"))
        assert encode(again) == encode(message)


def _server_sent_events(data: bytes) -> None:
    """The events do not depend on how the bytes come, nor does the text; readers end with text or with a failure."""
    one, many = EventSplitter(), EventSplitter()
    whole = [*one.feed(data[1:]), *one.finish()]
    assert [*(event for piece in pieces(data) for event in many.feed(piece)), *many.finish()] == whole
    reader, novelai = ChatReader(_UPSTREAM, "m"), TokenReader(_UPSTREAM, "m")
    for one_of_both in (reader, novelai):
        texts = [text for piece in pieces(data) if not one_of_both.over for text in one_of_both.feed(piece)]
        texts += [] if one_of_both.over else one_of_both.end()
        assert all(texts)
        # At one go there may be more of it: what stands behind the end of an answer, in the same read.
        again = type(one_of_both)(_UPSTREAM, "m")
        at_once = again.feed(data[1:])
        assert "".join([*at_once, *([] if again.over else again.end())]).startswith("".join(texts))
    _ends(reader)


def _ollama_lines(data: bytes) -> None:
    """A reader of JSON lines ends with text or with a failure, whatever Ollama sends."""
    reader = OllamaReader(_UPSTREAM, "m")
    texts = [text for piece in (*pieces(data), b"") if not reader.over for text in reader.feed(piece)]
    assert all(texts)
    _ends(reader)


def _ends(reader: ChatReader | OllamaReader) -> None:
    """Its end can be sent to the core."""
    if reader.failure is None:
        try:
            finish = reader.finish(10)
        except ProviderError:
            return
        encode(Done(id=1, finish_reason=finish.reason, usage=finish.usage))
    else:
        assert len(reader.failure.message) <= 1000


def _doors(data: bytes) -> None:
    """Only a loopback Host and a page of loopback come in without being listed; a token opens only with the token."""
    host, _, rest = data.decode("latin-1").partition("\n")
    origin, _, bearer = rest.partition("\n")
    doors = Doors.of("127.0.0.1", Listed("h", ()), Listed("o", ()), _TOKEN)
    if doors.check_names([host], [origin] if origin else []) is None:
        assert _LOOPBACK.fullmatch(host.lower())
        assert not origin or _PAGE.fullmatch(origin.lower())
    if doors.check_token([bearer], [bearer]) is None:
        assert _TOKEN in bearer or "bearer." in bearer


def _redactor(data: bytes) -> None:
    """After the first line, the key, has been made known it stands in no text any more, and nothing raises."""
    first, _, rest = data.partition(b"\n")
    key, text = first.decode("utf-8", "replace"), rest.decode("utf-8", "replace")
    redactor, scrubber = Redactor(), Scrubber()
    redactor.add(key)
    scrubber.add(key)
    for scrubbed in (redactor.scrub(text + key + text), scrubber.scrub(text + key + text)):
        # A key made of what masks are made of may come to be at the edge of one.
        if len(key) >= 8 and not set(key) & set(MASK):
            assert key not in scrubbed


TARGETS: Final = (
    Target(
        "client_messages",
        _client_messages,
        (*_JSON_WORDS, b'"type":', b'"generate"', b'"unique_request_id":', b'"load"'),
    ),
    Target("worker_lines", _worker_lines, (b"\n", b"x" * 199, b"x" * 200, b"x" * 201, b"\r\n", b"\0")),
    Target("wire_messages", _wire_messages, (*_JSON_WORDS, b'"type":', b'"chunk"', b'"id":', b'"done"', b'"usage":')),
    Target(
        "server_sent_events",
        _server_sent_events,
        (*_JSON_WORDS, b"data: ", b"data:", b"event: ", b"\n\n", b"\r", b"\r\n\r\n", b": ", b"[DONE]", b'"delta":'),
    ),
    Target("ollama_lines", _ollama_lines, (*_JSON_WORDS, b'"message":', b'"done":', b'"eval_count":', b'"error":')),
    Target(
        "doors",
        _doors,
        (
            *(
                b"localhost",
                b"127.0.0.1",
                b"[::1]",
                b":7562",
                b":",
                b".",
                b"http://",
                b"https://",
                b"null",
                b"evil.example",
            ),
            *(
                b"\n",
                b"\0",
                b"@",
                b"%00",
                b"0x7f",
                b"2130706433",
                b"[",
                b"]",
                b"\xb2",
                b"Bearer ",
                b"bearer.",
                b"=",
                b" ",
            ),
        ),
    ),
    Target(
        "redactor",
        _redactor,
        (b"sk-", b"Bearer ", b"://", b"@", b"\n", b"%2F", b"abcdefgh", b"\xf0\x9f\x98\x80", b"\\", b'"'),
    ),
)
