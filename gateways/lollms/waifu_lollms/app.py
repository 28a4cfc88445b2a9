"""The gateway's ASGI application: the doors before everything, then Socket.IO, avatars, the playground, or 404."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote

from waifu_lollms.answers import Header, Scope, Send, answer, respond
from waifu_lollms.engine import Engine, Message, Receive
from waifu_lollms.pages import Pages
from waifu_worker.doors import Doors

_SOCKET_IO: Final = "/socket.io"
_AVATARS: Final = b"/avatars/"
_LARGEST_AVATAR: Final = 8 * 1024 * 1024
_IMAGE_TYPES: Final = frozenset({"image/gif", "image/webp", "image/png", "image/jpeg", "image/bmp"})
_AVATAR_HEADERS: Final = (
    (b"cache-control", b"private, max-age=300"),
    (b"content-security-policy", b"default-src 'none'"),
)
_METHODS: Final = frozenset({"GET", "HEAD"})
_SOCKET_IO_METHODS: Final = frozenset({"GET", "POST"})


class Logo(Protocol):
    """Where an avatar lies, and what it is."""

    @property
    def file(self) -> Path:
        """Below the roots."""

    @property
    def content_type(self) -> str:
        """What its first bytes say."""


# The avatar of a personality by its key, None where there is none; blocks.
FindLogo = Callable[[str], Logo | None]


class App:
    """Every request and every WebSocket of the gateway."""

    def __init__(self, doors: Doors, engine: Engine, find_logo: FindLogo, pages: Pages) -> None:
        self._doors = doors
        self._engine = engine
        self._find_logo = find_logo
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it; nothing that a client sends makes it raise."""
        origins = _values(scope, b"origin")
        denied = self._doors.check_names(_values(scope, b"host"), origins)
        guarded = _with_headers(send, origins[0] if origins and denied is None else None)
        if denied is not None:
            return await answer(scope, guarded, denied.status, denied.text)
        if scope["path"].rstrip("/") == _SOCKET_IO:
            return await self._socket_io(scope, receive, guarded)
        if scope["type"] == "websocket":
            return await answer(scope, guarded, 404, "Not found.\n")
        if scope["method"] == "OPTIONS":
            return await _preflight(scope, guarded, _METHODS)
        if scope["method"] not in _METHODS:
            return await _wrong_method(scope, guarded, _METHODS)
        return await self._file(scope, guarded)

    async def _socket_io(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            return await _preflight(scope, send, _SOCKET_IO_METHODS)
        if scope["type"] == "http" and scope["method"] not in _SOCKET_IO_METHODS:
            return await _wrong_method(scope, send, _SOCKET_IO_METHODS)
        return await self._engine(scope, receive, send)

    async def _file(self, scope: Scope, send: Send) -> None:
        path: bytes = scope["raw_path"]
        if path.startswith(_AVATARS):
            return await self._avatar(scope, send, unquote(path[len(_AVATARS) :].decode("ascii")))
        page = self._pages.find(scope["path"], _values(scope, b"host")[0])
        if page is None:
            return await answer(scope, send, 404, "Not found.\n")
        return await respond(scope, send, 200, page.body, (page.content_type, page.headers))

    async def _avatar(self, scope: Scope, send: Send, key: str) -> None:
        found = await asyncio.to_thread(self._read_avatar, key)
        if found is None:
            return await answer(scope, send, 404, "Not found.\n")
        body, content_type = found
        return await respond(scope, send, 200, body, (content_type.encode(), _AVATAR_HEADERS))

    def _read_avatar(self, key: str) -> tuple[bytes, str] | None:
        try:
            logo = self._find_logo(key)
            if logo is None or logo.content_type not in _IMAGE_TYPES:
                return None
            with logo.file.open("rb") as file:
                body = file.read(_LARGEST_AVATAR + 1)
        except (OSError, ValueError):
            return None
        return (body, logo.content_type) if len(body) <= _LARGEST_AVATAR else None


def _values(scope: Scope, name: bytes) -> list[str]:
    """All values of one header; bytes that are no ASCII stay themselves, and fit no rule."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _with_headers(send: Send, origin: str | None) -> Send:
    """Adds what every answer carries, and for a page that may read it, that it may."""
    more: list[Header] = [(b"x-content-type-options", b"nosniff"), (b"vary", b"Origin")]
    if origin is not None:
        more += [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-credentials", b"true"),
        ]

    async def guarded(message: Message) -> None:
        if message["type"].endswith("response.start"):
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return guarded


async def _preflight(scope: Scope, send: Send, methods: frozenset[str]) -> None:
    asked = _values(scope, b"access-control-request-headers")
    headers: list[Header] = [
        (b"access-control-allow-methods", ", ".join(sorted(methods)).encode()),
        (b"access-control-max-age", b"600"),
    ]
    if asked:
        headers.append((b"access-control-allow-headers", ", ".join(asked).encode("latin-1")))
    await answer(scope, send, 200, "", headers)


async def _wrong_method(scope: Scope, send: Send, methods: frozenset[str]) -> None:
    allow = ", ".join(sorted(methods)).encode()
    await answer(scope, send, 405, "This method is not served here.\n", [(b"allow", allow), (b"connection", b"close")])
