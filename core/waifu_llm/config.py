"""Frozen settings: flag > environment > file > default, resolved once at start."""

from typing import Annotated

import msgspec

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all sections have in common."""


class ServerSettings(_Section, frozen=True, kw_only=True):
    """`[server]`: where the module listens and who may connect."""

    host: str = "127.0.0.1"
    port: Port = 7562
    token_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    allow_origin: tuple[str, ...] = ()
    allow_host: tuple[str, ...] = ()
    remote_close: bool = True
    isolate_clients: bool = False


class LimitSettings(_Section, frozen=True, kw_only=True):
    """`[limits]`: sizes in bytes, counts, and how long a stalled reader is borne."""

    message_bytes: Positive = 16 * 1024 * 1024
    connections: Positive = 2000
    running: Positive = 2048
    queued: Positive = 16384
    pending_bytes: Positive = 8 * 1024 * 1024
    stall_s: Seconds = 30.0


class WorkerSettings(_Section, frozen=True, kw_only=True):
    """`[workers]`: seconds a worker may take, and how often it may crash."""

    idle_s: Seconds = 300.0
    start_s: Seconds = 60.0
    build_silence_s: Seconds = 900.0
    key_check_s: Seconds = 15.0
    cancel_s: Seconds = 2.0
    crashes: Positive = 5
    crash_window_s: Seconds = 180.0


class LogSettings(_Section, frozen=True, kw_only=True):
    """`[log]`: how much is told, and whether prompts and answers may be in it."""

    level: str = "info"
    content: bool = False


class UvSettings(_Section, frozen=True, kw_only=True):
    """`[uv]`: the user's own package index and a folder of wheels."""

    index: str | None = None
    find_links: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a run. `provider` holds option defaults by provider, `gateway` each gateway's own table."""

    server: ServerSettings = ServerSettings()
    limits: LimitSettings = LimitSettings()
    workers: WorkerSettings = WorkerSettings()
    log: LogSettings = LogSettings()
    uv: UvSettings = UvSettings()
    provider: dict[str, dict[str, object]] = {}
    gateway: dict[str, dict[str, object]] = {}
    token: str | None = None
