"""Rows S17, S18 and P20: no address of a load, in whatever form, leads where nobody's provider is."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pool_bench import make
from support.waiting import bounded

from waifu_llm.config import ServerSettings
from waifu_llm.errors import BadLoadField, UsageError
from waifu_llm.supervision.addresses import ANY_UPSTREAM, Upstreams
from waifu_llm.supervision.fields import checked_url
from waifu_worker.addresses import NoHost, is_never_a_provider, leads_nowhere_good, parse
from waifu_worker.http_client import HttpClient
from waifu_worker.provider import ProviderError
from waifu_worker.upstream import Upstream

CORPUS = Path(__file__).parent / "data" / "upstreams.txt"
METADATA = "169.254.169.254"
OFF_LOOPBACK = "192.0.2.1"


def corpus() -> Iterator[tuple[str, str]]:
    for line in CORPUS.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            verdict, _, written = line.partition(" ")
            url = written.encode("latin-1", "backslashreplace").decode("unicode-escape")
            yield verdict, url


def verdict_of(url: str) -> str:
    try:
        checked_url("the load's field base_url", url)
    except BadLoadField as error:
        assert "base_url" in error.message
        assert "secret" not in error.message
        return "never" if "never a provider" in error.message else "none"
    return "taken"


def test_p20_the_corpus_has_the_forms_that_it_should() -> None:
    urls = [url for _, url in corpus()]
    assert len(urls) == len(set(urls)) >= 80


def test_p20_urls_are_taken_or_refused_as_the_corpus_says() -> None:
    wrong = {url: found for verdict, url in corpus() if (found := verdict_of(url)) != verdict}
    assert wrong == {}


@st.composite
def ipv4_texts(draw: st.DrawFn, values: st.SearchStrategy[int]) -> tuple[str, int]:
    """An address in one of the forms that inet_aton takes, and the number it is."""
    value = draw(values)
    count = draw(st.integers(1, 4))
    parts = [value >> 8 * (3 - place) & 0xFF for place in range(count - 1)]
    parts.append(value & (1 << 8 * (5 - count)) - 1)
    forms: list[Callable[[int], str]] = [
        str,
        hex,
        lambda part: f"0{part:o}" if part else "0",
        lambda part: f"0X{part:X}",
    ]
    return ".".join(draw(st.sampled_from(forms))(part) for part in parts), value


@given(ipv4_texts(st.integers(0, 2**32 - 1)))
def test_s17_a_number_is_the_address_that_the_system_makes_of_it(written: tuple[str, int]) -> None:
    text, value = written
    assert int(parse(text)) == value == int.from_bytes(socket.inet_aton(text))


@given(ipv4_texts(st.integers(0xA9FE0000, 0xA9FEFFFF)), st.integers(0, 2))
def test_s17_no_form_of_a_link_local_address_is_taken(written: tuple[str, int], dots: int) -> None:
    assert verdict_of(f"http://{written[0]}{'.' * dots}:80/v1") == "never"


@given(st.text(st.sampled_from("0123456789abcdefx.:-_[]%@/\\ １６９。①ß\u00ad\u200d\t"), max_size=24))
def test_s17_no_text_makes_the_parser_raise_or_disagree_with_the_resolver(text: str) -> None:
    try:
        parsed = parse(text)
    except NoHost:
        return
    if isinstance(parsed, str):
        assert parsed.isascii()
        assert not any(character in parsed for character in "[]%@/\\ \t")
        with pytest.raises(OSError):
            socket.inet_aton(parsed)
    else:
        assert parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("address", "never"),
    [(METADATA, True), ("fe80::1%eth0", True), ("::ffff:a9fe:1", True), ("127.0.0.1", False), ("::1", False)],
)
def test_s17_what_a_resolver_gives_is_judged_as_well(address: str, never: bool) -> None:
    assert leads_nowhere_good(address) is never


def test_s17_an_address_that_is_already_one_is_judged_by_its_number() -> None:
    assert is_never_a_provider(ipaddress.ip_address(METADATA))
    assert not is_never_a_provider("metadata.example")


# Off loopback.


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.example/v1", True),
        ("https://API.example:443/v2", True),
        ("http://api.example/v1", False),
        ("https://api.example:8443/v1", False),
        ("http://127.0.0.1:11434", True),
        ("http://127.0.0.1:22", False),
        ("http://127.1:11434", False),
        ("https://llm.example.org/v1", True),
        ("http://llm.example.org/v1", True),
        ("http://llm.example.org:8080/v1", False),
        ("http://10.0.0.5:8080", True),
        ("http://10.0.0.5", False),
        ("http://[fd00::5]:9000", True),
        ("https://evil.example", False),
        ("http://169.254.169.254.nip.io", False),
    ],
)
def test_s17_off_loopback_a_load_names_what_the_operator_named(url: str, allowed: bool) -> None:
    listed = ("LLM.example.org", "10.0.0.5:8080", "[fd00::5]:9000")
    off = Upstreams.of(ServerSettings(host=OFF_LOOPBACK, allow_upstream=listed))
    configured = ("https://api.example/v1", "http://127.0.0.1:11434", None)
    assert off.allows(url, configured) is allowed
    assert ANY_UPSTREAM.allows(url, configured)
    assert Upstreams.of(ServerSettings(host="127.0.0.1")) == ANY_UPSTREAM


def test_s17_a_listed_service_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(UsageError, match=r"server\.allow_upstream"):
        Upstreams.of(ServerSettings(allow_upstream=("https://host/v1",)))


async def test_s17_the_pool_asks_where_the_module_listens(tmp_path: Path) -> None:
    bench = make(tmp_path, server=ServerSettings(host=OFF_LOOPBACK))
    with pytest.raises(BadLoadField, match=r"server\.allow_upstream"):
        await bench.pool.load(bench.fields(base_url="http://10.0.0.1"), "client")
    assert bench.spawn.count == 0
    await bench.pool.close()


# When a worker connects.


@asynccontextmanager
async def service(*, answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server on loopback: its port, and the requests that it got."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening, bounded():
        yield listening.sockets[0].getsockname()[1], seen


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that this process tries to connect to, in their order."""
    seen: list[str] = []
    loop_type = asyncio.SelectorEventLoop
    really = loop_type.sock_connect

    async def connect(loop: asyncio.SelectorEventLoop, sock: socket.socket, address: Any) -> None:
        seen.append(address[0])
        await really(loop, sock, address)

    monkeypatch.setattr(loop_type, "sock_connect", connect)
    return seen


def resolve(monkeypatch: pytest.MonkeyPatch, *answers: tuple[str, ...]) -> None:
    """Every look-up gives the next of these answers, at last always the last one."""
    left = list(answers)

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


async def get(url: str) -> bytes:
    client = HttpClient(aiohttp, Upstream("Acme", url), {"Authorization": "Bearer key"})
    try:
        async with bounded():
            return await client.get("/models")
    finally:
        await client.close()


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@pytest.mark.parametrize("answer", [(METADATA,), ("fe80::1",), ("64:ff9b::a9fe:a9fe", METADATA)])
async def test_s17_a_name_that_leads_to_a_metadata_address_gets_no_connection(
    monkeypatch: pytest.MonkeyPatch, connected: list[str], answer: tuple[str, ...]
) -> None:
    resolve(monkeypatch, answer)
    with pytest.raises(ProviderError, match=r"link-local or metadata address.*base_url"):
        await get("http://rebound.example/v1")
    assert connected == []


@pytest.mark.parametrize("host", [METADATA, "[fe80::1]", "[::ffff:169.254.169.254]"])
async def test_s17_an_address_that_the_core_let_through_gets_no_connection_either(
    connected: list[str], host: str
) -> None:
    with pytest.raises(ProviderError, match="link-local or metadata address"):
        await get(f"http://{host}/v1")
    assert connected == []


async def test_s17_a_name_that_is_rebound_is_looked_at_with_each_connection(
    monkeypatch: pytest.MonkeyPatch, connected: list[str]
) -> None:
    async with service(answer=GOOD) as (port, _):
        resolve(monkeypatch, ("127.0.0.1",), (METADATA,))
        assert await get(f"http://rebound.example:{port}") == b"{}"
        with pytest.raises(ProviderError, match="link-local or metadata address"):
            await get(f"http://rebound.example:{port}")
    assert connected == ["127.0.0.1"]


async def test_s17_of_several_addresses_the_good_ones_are_tried(
    monkeypatch: pytest.MonkeyPatch, connected: list[str]
) -> None:
    async with service(answer=GOOD) as (port, _):
        resolve(monkeypatch, ("fe80::1", "127.0.0.1"))
        assert await get(f"http://here.local:{port}") == b"{}"
    assert connected == ["127.0.0.1"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_s17_a_redirect_is_a_failure_and_never_followed(connected: list[str], status: int) -> None:
    head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: http://{METADATA}/latest\r\nContent-Length: 0\r\n"
    async with service(answer=f"{head}Connection: close\r\n\r\n".encode()) as (port, seen):
        with pytest.raises(ProviderError):
            await get(f"http://127.0.0.1:{port}")
    assert len(seen) == 1
    assert connected == ["127.0.0.1"]


async def test_s17_a_proxy_is_where_the_user_put_it(monkeypatch: pytest.MonkeyPatch, connected: list[str]) -> None:
    async with service(answer=GOOD) as (port, seen):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        assert await get("http://api.example/v1") == b"{}"
    assert seen[0].startswith(b"GET http://api.example/v1/models ")
    assert connected == ["127.0.0.1"]
