"""Plain answers over ASGI, to HTTP requests and to WebSockets that are not let in."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]


async def answer(scope: Scope, send: Send, status: int, text: str, headers: Iterable[Header] = ()) -> None:
    """One sentence as plain text."""
    await respond(scope, send, status, text.encode(), (b"text/plain; charset=utf-8", headers))


async def respond(scope: Scope, send: Send, status: int, body: bytes, content: tuple[bytes, Iterable[Header]]) -> None:
    """`content`: its type, and further headers. HEAD gets them all without the body."""
    kind, headers = content
    prefix = "websocket.http" if scope["type"] == "websocket" else "http"
    start = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": f"{prefix}.response.start", "status": status, "headers": start})
    await send({"type": f"{prefix}.response.body", "body": body})
