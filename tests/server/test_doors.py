"""Who may connect: Host, Origin and token, each with what an attacker would send."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waifu_llm.config import ServerSettings
from waifu_llm.doors import ModuleDoors
from waifu_llm.errors import UsageError
from waifu_worker.doors import Denied, is_loopback, parse_host, parse_origin

LOCAL = ModuleDoors.of(ServerSettings(), None)
LISTED = ModuleDoors.of(
    ServerSettings(
        allow_origin=("https://Example.org", "http://app.example.org:8080", "file://", "vscode-webview://abc"),
        allow_host=("llm.example.org", "192.168.1.5"),
    ),
    None,
)
TOKEN = "tök-en_1"
GUARDED = ModuleDoors.of(ServerSettings(), TOKEN)


def status(denied: Denied | None) -> int | None:
    return denied.status if denied else None


def knock(doors: ModuleDoors, host: str = "127.0.0.1:7562", origin: str | None = None) -> int | None:
    return status(doors.check([host], [] if origin is None else [origin], [], []))


GOOD_HOSTS = [
    "127.0.0.1",
    "127.0.0.1:7562",
    "127.0.0.1:80",
    "127.1.2.3:7562",
    "localhost",
    "localhost:7562",
    "LOCALHOST:7562",
    "[::1]",
    "[::1]:7562",
    "[0:0:0:0:0:0:0:1]:7562",
]
BAD_HOSTS = [
    "",
    " ",
    ":",
    ":7562",
    "evil.example",
    "evil.example:7562",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.localhost",
    "localhost.",
    "127.0.0.1.",
    "127.1",
    "127.0.0.01",
    "0177.0.0.1",
    "0x7f000001",
    "2130706433",
    "0.0.0.0",
    "0.0.0.0:7562",
    "[::]",
    "[::1",
    "::1",
    "[::1]x",
    "[::1]:",
    "[::1%25lo]",
    "[::ffff:127.0.0.1]",
    "[127.0.0.1]",
    "[]",
    "localhost:",
    "localhost:x",
    "localhost:65536",
    "localhost:123456",
    "localhost:-1",
    "localhost:7562:1",
    "localhost/",
    "user@localhost",
    "localhost,evil.example",
    "localhost evil",
    "loc\u0430lhost",
    "localhost\x00",
    "-localhost",
    "x" * 300,
    "a" * 64,
    "192.168.1.5",
    "\udcff",
]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_a_loopback_host_is_let_in(host: str) -> None:
    assert knock(LOCAL, host) is None


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_any_other_host_is_refused(host: str) -> None:
    assert knock(LOCAL, host) == 403
    assert knock(LOCAL, host, f"http://{host}") == 403


@pytest.mark.parametrize("hosts", [[], ["localhost", "localhost"], ["localhost", "evil.example"]])
def test_no_host_or_several_are_refused(hosts: list[str]) -> None:
    assert status(LOCAL.check(hosts, [], [], [])) == 403


def test_listed_hosts_are_let_in_in_any_case_and_on_any_port() -> None:
    for host in ("llm.example.org", "LLM.example.org:9", "192.168.1.5:7562"):
        assert knock(LISTED, host) is None
    assert knock(LISTED, "other.example.org") == 403


GOOD_ORIGINS = [
    None,
    "http://localhost",
    "http://localhost:3000",
    "https://localhost",
    "https://LOCALHOST:8443",
    "http://127.0.0.1",
    "http://127.0.0.1:5173",
    "http://127.8.8.8",
    "http://[::1]",
    "http://[::1]:3000",
]
BAD_ORIGINS = [
    "null",
    "NULL",
    "",
    " ",
    "*",
    "http://evil.example",
    "https://evil.example:7562",
    "http://localhost.evil.example",
    "http://evil.example.localhost",
    "http://localhost.",
    "http://localhost:",
    "http://localhost:x",
    "http://localhost:99999",
    "http://localhost/",
    "http://localhost/path",
    "http://localhost?x",
    "http://localhost#x",
    "http://localhost@evil.example",
    "http://evil.example@localhost",
    "http://localhost evil",
    "http://localhost,http://evil.example",
    "http:/localhost",
    "http:localhost",
    "//localhost",
    "localhost",
    "127.0.0.1",
    "http://",
    "https://",
    "http://127.0.0.1.evil.example",
    "http://127.1",
    "http://2130706433",
    "http://0x7f.0.0.1",
    "http://0.0.0.0",
    "http://[::]",
    "http://[::1",
    "http://::1",
    "http://[::ffff:127.0.0.1]",
    "http://[::1%25lo]",
    "ftp://localhost",
    "file://",
    "chrome-extension://localhost",
    "data://localhost",
    "javascript://localhost",
    "ws://localhost",
    "http://localhost\x00",
    "http://loc\u0430lhost",
    "http://localhost\n",
    "http://\udcff",
    "https://example.org",
    "x" * 10_000,
]


@pytest.mark.parametrize("origin", GOOD_ORIGINS)
def test_native_clients_and_loopback_pages_are_let_in(origin: str | None) -> None:
    assert knock(LOCAL, origin=origin) is None


@pytest.mark.parametrize("origin", BAD_ORIGINS)
def test_any_other_page_is_refused(origin: str) -> None:
    assert knock(LOCAL, origin=origin) == 403


def test_several_origins_are_refused() -> None:
    assert status(LOCAL.check(["localhost"], ["http://localhost", "http://localhost"], [], [])) == 403


@pytest.mark.parametrize(
    ("origin", "wanted"),
    [
        ("https://example.org", None),
        ("https://example.org:443", None),
        ("HTTPS://EXAMPLE.ORG", None),
        ("http://example.org", 403),
        ("https://example.org:8443", 403),
        ("https://www.example.org", 403),
        ("https://example.org.evil.example", 403),
        ("http://app.example.org:8080", None),
        ("http://app.example.org", 403),
        ("file://", None),
        ("vscode-webview://abc", None),
        ("null", 403),
    ],
)
def test_a_listed_origin_is_let_in_by_scheme_host_and_port(origin: str, wanted: int | None) -> None:
    assert knock(LISTED, origin=origin) == wanted


def bearer(token: str) -> str:
    return "bearer." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def as_header(text: str) -> str:
    """How the library hands bytes that are not ASCII."""
    return text.encode().decode("ascii", "surrogateescape")


@pytest.mark.parametrize(
    ("authorizations", "subprotocols"),
    [
        ([f"Bearer {as_header(TOKEN)}"], []),
        ([f"bearer  {as_header(TOKEN)} "], []),
        ([], [f"waifu-llm, {bearer(TOKEN)}"]),
        ([], ["waifu-llm", bearer(TOKEN)]),
        ([], [f"{bearer(TOKEN)}=="]),
        (["Bearer wrong"], [bearer(TOKEN)]),
    ],
)
def test_the_token_opens_the_door(authorizations: list[str], subprotocols: list[str]) -> None:
    assert GUARDED.check(["localhost"], [], authorizations, subprotocols) is None


@pytest.mark.parametrize(
    ("authorizations", "subprotocols"),
    [
        ([], []),
        ([""], [""]),
        (["Bearer"], []),
        (["Bearer "], []),
        ([TOKEN], []),
        ([f"Basic {TOKEN}"], []),
        ([f"Bearer {TOKEN[:-1]}"], []),
        ([f"Bearer {TOKEN}x"], []),
        (["Bearer \ud800"], []),
        (["Bearer \udcff"], []),
        ([], ["waifu-llm"]),
        ([], [TOKEN]),
        ([], [f"bearer.{TOKEN}"]),
        ([], ["bearer."]),
        ([], ["bearer.a"]),
        ([], ["bearer.____"]),
        ([], ["bearer.\u00e9"]),
        ([], [bearer(TOKEN).upper()]),
    ],
)
def test_without_the_token_the_door_stays_shut(authorizations: list[str], subprotocols: list[str]) -> None:
    assert status(GUARDED.check(["localhost"], [], authorizations, subprotocols)) == 401


def test_a_page_that_may_not_connect_is_not_even_asked_for_a_token() -> None:
    assert status(GUARDED.check(["localhost"], ["http://evil.example"], [f"Bearer {as_header(TOKEN)}"], [])) == 403


def test_a_token_that_nobody_asked_for_does_no_harm() -> None:
    assert LOCAL.check(["localhost"], [], ["Bearer x"], ["waifu-llm, bearer.eA"]) is None


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_header_makes_it_raise(host: str, origin: str, authorization: str, subprotocol: str) -> None:
    parse_host(host), parse_origin(origin), is_loopback(host)
    assert status(GUARDED.check([host], [origin], [authorization], [subprotocol])) in (401, 403)
    shut = GUARDED.check(["localhost"], [], [f"Bearer {authorization}"], [f"bearer.{subprotocol}"])
    assert status(shut) == 401 or TOKEN in (authorization, subprotocol)


# What the settings make of it.


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "::1", "127.0.0.2"])
def test_on_loopback_neither_token_nor_isolation_is_forced(host: str) -> None:
    doors = ModuleDoors.of(ServerSettings(host=host), None)
    assert (doors.loopback, doors.isolated, doors.rules.token, doors.warnings) == (True, False, None, ())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "llm.example.org"])
@pytest.mark.parametrize("token", [None, ""])
def test_off_loopback_there_is_no_start_without_a_token(host: str, token: str | None) -> None:
    with pytest.raises(UsageError, match="WAIFU_LLM_TOKEN"):
        ModuleDoors.of(ServerSettings(host=host), token)


def test_off_loopback_clients_are_isolated_and_missing_tls_is_a_warning() -> None:
    doors = ModuleDoors.of(ServerSettings(host="192.168.1.5"), "t")
    assert (doors.loopback, doors.isolated) == (False, True)
    (warning,) = doors.warnings
    assert "TLS" in warning
    safe = ModuleDoors.of(ServerSettings(host="192.168.1.5", tls_cert="c", tls_key="k"), "t")
    assert safe.warnings == ()
    assert safe.check(["192.168.1.5:7562"], [], ["Bearer t"], []) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_listening_everywhere_lets_no_unlisted_host_in(host: str) -> None:
    doors = ModuleDoors.of(ServerSettings(host=host, allow_host=("llm.example.org",)), "t")
    assert status(doors.check([f"[{host}]" if ":" in host else host], [], ["Bearer t"], [])) == 403
    assert status(doors.check(["192.168.1.5"], [], ["Bearer t"], [])) == 403
    assert doors.check(["llm.example.org:7562"], [], ["Bearer t"], []) is None
    assert len(doors.warnings) == 1
    nobody = ModuleDoors.of(ServerSettings(host=host), "t")
    assert "allow_host" in nobody.warnings[1]


def test_clients_can_be_isolated_on_loopback_too() -> None:
    assert ModuleDoors.of(ServerSettings(isolate_clients=True), None).isolated


@pytest.mark.parametrize(
    "settings",
    [
        ServerSettings(allow_origin=("*",)),
        ServerSettings(allow_origin=("null",)),
        ServerSettings(allow_origin=("example.org",)),
        ServerSettings(allow_origin=("https://example.org/",)),
        ServerSettings(allow_host=("*",)),
        ServerSettings(allow_host=("http://example.org",)),
        ServerSettings(tls_cert="c"),
        ServerSettings(tls_key="k"),
    ],
)
def test_settings_that_mean_nothing_are_refused_at_start(settings: ServerSettings) -> None:
    with pytest.raises(UsageError):
        ModuleDoors.of(settings, None)


def test_the_token_is_not_in_the_repr() -> None:
    assert TOKEN not in repr(GUARDED)


def test_a_gateway_of_this_run_passes_with_its_own_token_and_nothing_else_does() -> None:
    doors = ModuleDoors.of(ServerSettings(), TOKEN, "of-this-run")
    assert doors.check(["127.0.0.1"], [], ["Bearer of-this-run"], []) is None
    assert doors.is_gateway(["Bearer of-this-run"])
    assert not doors.is_gateway([f"Bearer {TOKEN}"])
    assert status(doors.check(["127.0.0.1"], [], ["Bearer of-another-run"], [])) == 401
    assert status(doors.check(["evil.example"], [], ["Bearer of-this-run"], [])) == 403
    assert not ModuleDoors.of(ServerSettings(), TOKEN).is_gateway(["Bearer "])


def test_where_gateways_alone_may_come_in_a_clients_token_opens_nothing() -> None:
    doors = ModuleDoors.of(ServerSettings(host="0.0.0.0"), TOKEN, "of-this-run")
    mine, theirs = ["Bearer of-this-run"], [f"Bearer {TOKEN}"]
    assert doors.check_gateway(["127.0.0.1:1"], [], mine) is None
    assert status(doors.check_gateway(["127.0.0.1:1"], [], theirs)) == 401
    assert status(doors.check_gateway(["127.0.0.1:1"], [], [])) == 401
    assert status(doors.check_gateway(["evil.example"], [], mine)) == 403
    assert status(doors.check_gateway(["127.0.0.1:1"], ["http://evil.example"], mine)) == 403
