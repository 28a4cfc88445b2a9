"""How much a client may take up, and for how long; the tests shorten them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, counts and seconds."""

    message_bytes: int = 1_000_000
    # Beside those that `connections` lets in: sessions that are about to be told so, or to leave.
    spare_sessions: int = 32
    # Whoever sends to a client waits above `room_bytes`; one for whom `queued_bytes` wait is disconnected.
    room_bytes: int = 256 * 1024
    queued_bytes: int = 8 * 1024 * 1024
    stall_s: float = 30.0
    # Events that came and are not yet with the service.
    inbox_events: int = 256
    inbox_bytes: int = 4 * 1024 * 1024
    # To send the head of a request, its body, or Socket.IO's CONNECT.
    head_s: float = 20.0
    body_s: float = 20.0
    connect_s: float = 20.0
    # For a client to take leave once it was told, and for all of them at the end.
    leave_s: float = 1.0
    close_s: float = 0.4
