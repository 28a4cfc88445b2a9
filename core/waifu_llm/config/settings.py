"""The settings there are: frozen, typed, each explained once. How they are resolved is `resolve`'s business."""

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

Host: TypeAlias = Annotated[str, Meta(min_length=1)]
Port: TypeAlias = Annotated[int, Meta(ge=0, le=65535)]
Positive: TypeAlias = Annotated[int, Meta(ge=1)]
NoneOrMore: TypeAlias = Annotated[int, Meta(ge=0)]
Nice: TypeAlias = Annotated[int, Meta(ge=0, le=19)]
Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=10_000_000)]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all sections have in common."""


class ServerSettings(_Section, frozen=True, kw_only=True):
    """`[server]`: where the module listens and who may connect."""

    host: Host = "127.0.0.1"
    port: Port = 7562
    token_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    allow_origin: tuple[str, ...] = ()
    allow_host: tuple[str, ...] = ()
    allow_upstream: tuple[str, ...] = ()
    remote_close: bool = True
    isolate_clients: bool = False


class LimitSettings(_Section, frozen=True, kw_only=True):
    """`[limits]`: sizes in bytes, counts, and how long a stalled reader is borne."""

    message_bytes: Positive = 16 * 1024 * 1024
    connections: Positive = 2000
    running: Positive = 2048
    queued: Positive = 16384
    requests: Positive = 18432
    queued_bytes: Positive = 256 * 1024 * 1024
    answer_bytes: Positive = 16 * 1024 * 1024
    workers: Positive = 64
    pending_bytes: Positive = 8 * 1024 * 1024
    stall_s: Seconds = 30.0


class WorkerSettings(_Section, frozen=True, kw_only=True):
    """`[workers]`: seconds a worker may take, how often it may crash, and how much of the machine it may use."""

    idle_s: Seconds = 300.0
    start_s: Seconds = 60.0
    build_silence_s: Seconds = 900.0
    key_check_s: Seconds = 15.0
    cancel_s: Seconds = 2.0
    crashes: Positive = 5
    crash_window_s: Seconds = 180.0
    memory_mb: NoneOrMore = 0
    nice: Nice = 0
    prewarm: tuple[str, ...] = ()
    prewarm_last: bool = False


class LogSettings(_Section, frozen=True, kw_only=True):
    """`[log]`: how much is told, and whether prompts and answers may be in it."""

    level: LogLevel = "info"
    content: bool = False


class UvSettings(_Section, frozen=True, kw_only=True):
    """`[uv]`: the user's own package index and a folder of wheels."""

    index: str | None = None
    find_links: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a run.

    `provider` holds option defaults by provider, `given` those of the command line, which go before a provider's own
    variables; `gateway` each gateway's own table: file, variables and command line in one. Paths in them are absolute.
    """

    server: ServerSettings = ServerSettings()
    limits: LimitSettings = LimitSettings()
    workers: WorkerSettings = WorkerSettings()
    log: LogSettings = LogSettings()
    uv: UvSettings = UvSettings()
    provider: dict[str, dict[str, object]] = {}
    given: dict[str, dict[str, object]] = {}
    gateway: dict[str, dict[str, object]] = {}
    token: str | None = None

    def __repr__(self) -> str:
        return f"Settings(server={self.server!r}, limits={self.limits!r}, workers={self.workers!r}, log={self.log!r})"


SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    "server": ServerSettings,
    "limits": LimitSettings,
    "workers": WorkerSettings,
    "log": LogSettings,
    "uv": UvSettings,
}
NAMED_SECTIONS: Final = ("provider", "gateway")

# Relative paths count from the folder of the file that holds them, else from the current folder.
PATHS: Final = frozenset(
    {("server", "token_file"), ("server", "tls_cert"), ("server", "tls_key"), ("uv", "find_links")}
)

HELP: Final[dict[str, dict[str, str]]] = {
    "server": {
        "host": "The address to listen on. Off loopback (0.0.0.0, a LAN address) a token is needed.",
        "port": "The port; 0 takes a free one.",
        "token_file": "A file (0600) with the token that every client must send. WAIFU_LLM_TOKEN goes before it.",
        "tls_cert": "Certificate chain (PEM); with tls_key the module speaks wss.",
        "tls_key": "The certificate's private key (PEM).",
        "allow_origin": "Web pages that may connect, beside those on a loopback host: https://example.org",
        "allow_host": "Names in the Host header that are let in beside loopback ones: llm.example.org",
        "allow_upstream": "Services that loads may name off loopback, beside those set up here: 10.0.0.5:8080",
        "remote_close": "Whether a client's `close` stops the module; false: only that client's connection.",
        "isolate_clients": "Whether a client that loaded nothing may use what another one loaded: true forbids it.",
    },
    "limits": {
        "message_bytes": "Largest message a client may send.",
        "connections": "Clients at once; more are answered 503.",
        "running": "Generations at once.",
        "queued": "Generations that may wait for a place; more are refused as busy.",
        "requests": "Requests that one client may have under way; more are refused as busy.",
        "queued_bytes": "Memory for prompts that wait; no client has more than half of it; more is refused as busy.",
        "answer_bytes": "Longest answer to a request that does not stream; a longer one ends as truncated.",
        "workers": "Workers at once; one that nobody uses makes room for another, else the load is refused as busy.",
        "pending_bytes": "Bytes that may wait for a slow client before it is disconnected.",
        "stall_s": "Seconds without progress before a slow client is disconnected.",
    },
    "workers": {
        "idle_s": "Seconds after its last user left until a worker is stopped.",
        "start_s": "Seconds a worker may take to start.",
        "build_silence_s": "Seconds the installer may say nothing.",
        "key_check_s": "Seconds a provider may take to check a key.",
        "cancel_s": "Seconds a worker has to stop a generation before it is killed.",
        "crashes": "So many crashes within crash_window_s, and a worker stays down until the next load.",
        "crash_window_s": "Seconds over which crashes are counted.",
        "memory_mb": "MiB a worker may use; one that uses more is ended, as where the machine has none left; 0: all.",
        "nice": "From 0 to 19: the higher, the less CPU time workers get while others want it.",
        "prewarm": "Providers to start before a client asks for them, so that loading them takes no time.",
        "prewarm_last": "Whether the provider that was loaded last is remembered, and prewarmed at the next start.",
    },
    "log": {
        "level": "debug, info, warning or error.",
        "content": "Whether prompts and answers are written to the log, at the level debug.",
    },
    "uv": {
        "index": "A package index of your own, in place of PyPI.",
        "find_links": "A folder (or page) of wheels to look at as well.",
    },
}
