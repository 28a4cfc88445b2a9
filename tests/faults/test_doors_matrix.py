"""P18 and rows S1 to S4, S20, S23: who comes in by Host, Origin and token, and that nothing said inside changes it."""

import asyncio
import base64
import hmac
import itertools
import json
import logging
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import pytest
from support.fake_pool import FakeLoaded, FakePool
from support.peer import connected
from support.raw_frames import raw_socket, request
from support.serving import Serving, serving

from waifu_client import protocol
from waifu_llm.config import LimitSettings, ServerSettings, Settings
from waifu_llm.config.settings import SECTIONS
from waifu_llm.doors import ModuleDoors
from waifu_llm.errors import ModuleError, UsageError
from waifu_llm.redaction import Redactor
from waifu_llm.server import Server
from waifu_llm.stats import Statistics
from waifu_worker import doors as shared_doors

TOKEN: Final = "a-token-of-some-length"
OF_GATEWAYS: Final = "what-gateways-send"
LISTED = ServerSettings(allow_host=("llm.example.org",), allow_origin=("https://app.example.org:8443", "file://"))
CERTIFICATE = str(Path(__file__).parent.parent / "server" / "data" / "localhost.pem")


def encoded(token: str) -> str:
    return base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


_DATA: dict[str, dict[str, list[Any]]] = json.loads((Path(__file__).parent / "data" / "doors.json").read_text("utf-8"))
HOSTS: dict[str, bool] = dict.fromkeys(_DATA["hosts"]["good"], True) | dict.fromkeys(_DATA["hosts"]["bad"], False)
ORIGINS: dict[str | None, bool] = dict.fromkeys(_DATA["origins"]["good"], True)
ORIGINS |= dict.fromkeys(_DATA["origins"]["bad"], False)
# The values of Authorization and of Sec-WebSocket-Protocol.
TOKENS: list[tuple[str | None, str | None, bool]] = [
    (f"Bearer {TOKEN}", None, True),
    (f"bearer {TOKEN}", None, True),
    (None, f"waifu-llm, bearer.{encoded(TOKEN)}", True),
    (f"Bearer {OF_GATEWAYS}", None, True),
    (None, None, False),
    ("Bearer", None, False),
    ("Bearer ", None, False),
    (f"Bearer {TOKEN[:-1]}", None, False),
    (f"Bearer {TOKEN}x", None, False),
    (f"Bearer {TOKEN.upper()}", None, False),
    (f"Basic {TOKEN}", None, False),
    (TOKEN, None, False),
    (None, f"waifu-llm, bearer.{TOKEN}", False),
    (None, f"waifu-llm, bearer.{encoded(OF_GATEWAYS)}", False),
    ("Bearer \x00", None, False),
]
MATRIX = [
    *itertools.product(HOSTS, [None, "http://localhost", "http://evil.example"], TOKENS),
    *itertools.product(["localhost", "evil.example"], ORIGINS, TOKENS[:5]),
]


Case: TypeAlias = tuple[str, str | None, tuple[str | None, str | None, bool]]


def expected(host: str, origin: str | None, token: tuple[str | None, str | None, bool]) -> int:
    if not HOSTS[host] or not ORIGINS[origin]:
        return 403
    return 101 if token[2] else 401


def values(value: str | None) -> list[str]:
    return [] if value is None else [value]


def test_p18_of_a_thousand_combinations_only_the_listed_ones_come_in() -> None:
    rules = ModuleDoors.of(LISTED, TOKEN, OF_GATEWAYS)
    assert len(MATRIX) >= 500
    wrong = []
    for host, origin, token in MATRIX:
        authorization, subprotocol, _ = token
        denied = rules.check([host], values(origin), values(authorization), values(subprotocol))
        if (101 if denied is None else denied.status) != expected(host, origin, token):
            wrong.append((host, origin, token))
    assert wrong == []


async def status(running: Serving, host: str, origin: str | None, token: tuple[str | None, str | None, bool]) -> int:
    headers = [f"Host: {host}"]
    named = {"Origin": origin, "Authorization": token[0], "Sec-WebSocket-Protocol": token[1]}
    headers += [f"{name}: {value}" for name, value in named.items() if value is not None]
    async with raw_socket(running.host, running.port) as raw:
        raw.send(request(*headers))
        return await raw.status()


async def test_p18_over_real_sockets_every_host_every_origin_and_every_token_get_the_same_answer() -> None:
    good = TOKENS[0]
    cases: list[Case] = [(host, None, good) for host in HOSTS]
    cases += [("localhost", origin, good) for origin in ORIGINS]
    cases += [("localhost", None, token) for token in TOKENS]
    wrong = []
    async with serving(server=LISTED, token=TOKEN, gateway_token=OF_GATEWAYS) as running:
        for case in cases:
            answer = await status(running, *case)
            # What is no header value at all is a bad request before it is a forbidden one.
            if answer != expected(*case) and not (answer in (0, 400) and expected(*case) != 101):
                wrong.append((case, answer))
    assert wrong == []


async def test_s2_a_name_that_was_rebound_to_this_machine_is_refused_though_host_and_origin_agree() -> None:
    async with serving() as running:
        for name in ("evil.example", "evil.example:7562", "localhost.evil.example"):
            assert await status(running, name, f"http://{name}", (None, None, True)) == 403


async def test_s1_two_of_a_header_are_none() -> None:
    async with serving(token=TOKEN) as running:
        for extra in (["Host: localhost"], ["Origin: http://localhost", "Origin: http://localhost"]):
            async with raw_socket(running.host, running.port) as raw:
                raw.send(request("Host: localhost", f"Authorization: Bearer {TOKEN}", *extra))
                assert await raw.status() == 403


def test_s3_tokens_are_compared_in_a_time_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    digest = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return digest(a, b)

    monkeypatch.setattr(shared_doors.hmac, "compare_digest", compare)  # type: ignore[attr-defined]
    rules = ModuleDoors.of(ServerSettings(), TOKEN)
    # Every one that is offered, also after the right one.
    offered = [f"Bearer {TOKEN}", "Bearer wrong"]
    assert rules.check(["localhost"], [], offered, [f"bearer.{encoded('other')}"]) is None
    assert [a.decode() for a, _ in compared] == [TOKEN, "wrong", "other"]


async def test_s3_a_token_in_the_url_opens_nothing_and_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(token=TOKEN) as running, raw_socket(running.host, running.port) as raw:
        raw.send(request("Host: localhost", target=f"/?token={TOKEN}&access_token={TOKEN}"))
        assert await raw.status() == 401
    assert TOKEN not in "".join(r.getMessage() for r in caplog.records if r.name.startswith("waifu_llm"))


# S4: host x token x TLS.

BINDS = {"127.0.0.1": True, "::1": True, "localhost": True, "0.0.0.0": False, "::": False, "192.0.2.1": False}


@pytest.mark.parametrize("bind", BINDS)
def test_s4_what_each_combination_of_address_token_and_certificate_does_at_the_start(bind: str) -> None:
    for token, certificate in itertools.product([None, "", TOKEN], [None, CERTIFICATE]):
        settings = ServerSettings(host=bind, tls_cert=certificate, tls_key=certificate)
        if not BINDS[bind] and not token:
            with pytest.raises(UsageError, match="token"):
                ModuleDoors.of(settings, token)
            continue
        rules = ModuleDoors.of(settings, token)
        assert rules.isolated is not BINDS[bind]
        assert any("without TLS" in warning for warning in rules.warnings) is (not BINDS[bind] and certificate is None)
        assert (rules.check(["localhost"], [], [], []) is None) is (not token)


async def test_s4_off_loopback_the_handshake_itself_asks_for_the_token() -> None:
    """The address is this machine's, by a name that the doors do not know for loopback."""
    async with serving(server=ServerSettings(host="127.1"), token=TOKEN) as running:
        assert await status(running, "127.1", None, TOKENS[0]) == 101
        assert await status(running, "127.1", None, TOKENS[4]) == 401
        assert await status(running, "evil.example", None, TOKENS[0]) == 403


async def test_s20_compression_is_never_agreed_on_whatever_is_offered() -> None:
    async with serving() as running:
        for offer in ("permessage-deflate", "permessage-deflate; client_max_window_bits=15", "x-webkit-deflate-frame"):
            async with raw_socket(running.host, running.port) as raw:
                raw.send(request("Host: localhost", f"Sec-WebSocket-Extensions: {offer}"))
                head = (await asyncio.wait_for(raw.reader.readuntil(b"\r\n\r\n"), 20)).lower()
                assert b" 101 " in head
                assert b"sec-websocket-extensions" not in head


# S23.


def setters() -> list[dict[str, Any]]:
    """Every setting, by every name that somebody may try, with a value that would open a door."""
    names = [(section, field.name) for section, shape in SECTIONS.items() for field in msgspec.structs.fields(shape)]
    tries: list[dict[str, Any]] = []
    for section, name in [*names, ("server", "token"), ("gateway", "lollms")]:
        for value in ("0.0.0.0", 0, ["*"], False):
            tries += [{name: value}, {f"{section}.{name}": value}, {section: {name: value}}]
            tries += [{"settings": {section: {name: value}}}, {f"WAIFU_LLM_{section}_{name}".upper(): value}]
    return tries


KINDS = [shape.__struct_config__.tag for shape in protocol.AnyRequest.__args__]
MORE_KINDS = ["set_settings", "set_config", "update_setting", "configure", "reload", "get_settings", "eval"]


async def test_s23_nothing_that_a_client_says_changes_who_may_connect() -> None:
    limits = LimitSettings(requests=5)
    async with (
        serving(
            FakePool(by_itself=True), server=ServerSettings(remote_close=False), limits=limits, token=TOKEN
        ) as running,
        connected(running.url, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as peer,
    ):
        running.pool.last = FakeLoaded("echo")
        server = running.server
        before = msgspec.json.encode(server._settings), server._doors, server._room
        kinds = [kind for kind in (*KINDS, *MORE_KINDS) if kind != "close"]
        for told, fields in enumerate(setters()):
            # Every way with some of the kinds, every kind with some of the ways.
            for kind in ("load", kinds[told % len(kinds)]):
                good = {"provider": "echo", "params": {"model_id": "m", **fields}, "prompt": "x"}
                await peer.socket.send(json.dumps({**good, **fields, "type": kind, "unique_request_id": told}))
                heard = await peer.hear()
                while not heard["type"].endswith(("_done", "error", "interrupt_ack")):
                    heard = await peer.hear()
        assert (msgspec.json.encode(server._settings), server._doors, server._room) == before
        assert await status(running, "localhost", None, TOKENS[4]) == 401
        assert await status(running, "evil.example", None, TOKENS[0]) == 403
        assert await status(running, "localhost", "http://evil.example", TOKENS[0]) == 403


def test_s23_settings_and_doors_cannot_be_changed_by_us_either() -> None:
    settings = Settings(token=TOKEN)
    rules = ModuleDoors.of(settings.server, TOKEN)
    with pytest.raises(AttributeError):
        settings.server.host = "0.0.0.0"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        settings.limits.connections = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        rules.loopback = False  # type: ignore[misc]
    with pytest.raises(AttributeError):
        rules.rules.token = None  # type: ignore[misc]


async def test_s4_a_server_that_may_not_start_has_bound_nothing() -> None:
    with pytest.raises(ModuleError):
        Server(FakePool(), Settings(server=ServerSettings(host="0.0.0.0")), Statistics(), Redactor())
