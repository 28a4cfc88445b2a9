"""What the transport and the service promise each other."""

from collections.abc import Mapping
from typing import Protocol


class Send(Protocol):
    """Sends one event to one client, in order; waits while much waits for it. A client that is gone gets nothing."""

    async def __call__(self, event: str, payload: Mapping[str, object]) -> None:
        """Send one event."""


class Service(Protocol):
    """What the events mean. For one client: `connected` first, then one `received` after the other, none of which
    begins after `disconnected`; that is called once, after `connected` returned, and while a `received` may still run.
    """

    async def connected(self, sid: str, send: Send, base_url: str) -> None:
        """A client is there; `base_url` is this server's address as it reached it."""

    async def received(self, sid: str, event: str, arguments: tuple[object, ...]) -> None:
        """One of its events, known or not."""

    async def disconnected(self, sid: str) -> None:
        """It has left."""

    async def close(self) -> None:
        """Everybody leaves."""
