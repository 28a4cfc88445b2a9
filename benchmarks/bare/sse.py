"""The least that reading a streamed answer takes: whole buffers split at blank lines, one field of each event."""

from typing import Final

import aiohttp
import msgspec


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Event(msgspec.Struct):
    choices: list[_Choice]


_decode: Final = msgspec.json.Decoder(_Event).decode
_DONE: Final = b"[DONE]"


class Splitter:
    """Keeps what is not whole yet."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The texts in what came."""
        *events, self._rest = (self._rest + data).split(b"\n\n")
        texts = [_decode(event[6:]).choices[0].delta.content for event in events if event[6:] != _DONE]
        return [text for text in texts if text]


def session() -> aiohttp.ClientSession:
    """Any number of connections, each kept for the next request."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None))


def request(url: str, model: str) -> tuple[str, bytes]:
    """Where to post what for a streamed answer."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    return f"{url}/chat/completions", msgspec.json.encode(body)
