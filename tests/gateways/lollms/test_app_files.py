"""What the gateway serves beside Socket.IO: avatars, the playground, and nothing else."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html.parser import HTMLParser
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.socket_io import FakeService, gateway
from yarl import URL

PNG = b"\x89PNG\r\n\x1a\n and so on"


@dataclass
class Picture:
    file: Path
    content_type: str


class Logos:
    """A library of pictures that remembers what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.pictures: dict[str, Picture] = {}

    def add(self, key: str, content: bytes = PNG, content_type: str = "image/png") -> None:
        file = self.folder / str(len(self.pictures))
        file.write_bytes(content)
        self.pictures[key] = Picture(file, content_type)

    def find(self, key: str) -> Picture | None:
        self.asked.append(key)
        if "\0" in key:
            raise ValueError("embedded null byte")
        return self.pictures.get(key)


@pytest.fixture
def logos(tmp_path: Path) -> Logos:
    return Logos(tmp_path)


@pytest.fixture
async def address(logos: Logos) -> AsyncIterator[str]:
    async with gateway(FakeService(), find_logo=logos.find) as address:
        yield address


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


async def test_an_avatar_is_its_file_with_its_type(logos: Logos, address: str, http: aiohttp.ClientSession) -> None:
    logos.add('english/fun/Ann "é" 100%')
    url = URL(f"{address}/avatars/english/fun/Ann%20%22%C3%A9%22%20100%25", encoded=True)
    for method in ("GET", "HEAD"):
        async with http.request(method, url) as response:
            assert response.status == HTTPStatus.OK
            assert await response.read() == (PNG if method == "GET" else b"")
            assert response.headers["Content-Type"] == "image/png"
            assert response.headers["Content-Length"] == str(len(PNG))
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Content-Security-Policy"] == "default-src 'none'"
            assert response.headers["Cache-Control"] == "private, max-age=300"
    assert set(logos.asked) == {'english/fun/Ann "é" 100%'}


@pytest.mark.parametrize("kind", ["image/svg+xml", "text/html", "application/octet-stream"])
async def test_what_could_hold_a_script_is_no_avatar(
    kind: str, logos: Logos, address: str, http: aiohttp.ClientSession
) -> None:
    logos.add("a/b/c", b"<svg onload=alert(1)>", kind)
    async with http.get(f"{address}/avatars/a/b/c") as response:
        assert response.status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("path", ["a/b/none", "", "a%00b", "..%2f..%2fetc%2fpasswd", "%ff", "a/b/../../../x", "/"])
async def test_no_avatar_is_a_plain_404(path: str, address: str, http: aiohttp.ClientSession) -> None:
    async with http.get(URL(f"{address}/avatars/{path}", encoded=True)) as response:
        assert response.status == HTTPStatus.NOT_FOUND
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert await response.text() == "Not found.\n"


async def test_an_avatar_that_has_gone_or_grown_too_large_is_none(
    logos: Logos, address: str, http: aiohttp.ClientSession
) -> None:
    logos.add("a/b/gone")
    logos.pictures["a/b/gone"].file.unlink()
    logos.add("a/b/large", bytes(8 * 1024 * 1024 + 1))
    for key in ("a/b/gone", "a/b/large"):
        async with http.get(f"{address}/avatars/{key}") as response:
            assert response.status == HTTPStatus.NOT_FOUND


class Links(HTMLParser):
    """What a page loads, and whether it holds scripts or styles of its own."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        link = named.get("href") if tag == "link" else named.get("src")
        if link is not None:
            self.links.append(link)
        elif tag in ("script", "style"):
            self.inline.append(tag)
        self.inline += [name for name in named if name == "style" or name.startswith("on")]


@pytest.mark.parametrize("path", ["", "/", "/playground"])
async def test_the_playground_may_load_and_reach_this_server_only(
    path: str, address: str, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{address}{path}") as response:
        assert response.status == HTTPStatus.OK
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = response.headers["Content-Security-Policy"]
        page = await response.text()
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == "'self'"
    assert rules["connect-src"] == f"'self' ws://{URL(address).authority}"
    assert rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    links = Links(page)
    assert links.inline == []
    assert links.links
    for link in links.links:
        assert re.match(r"\w+(/[\w.-]+)*\Z", link), f"{link} leads elsewhere"
        async with http.get(f"{address}/{link}") as response:
            assert response.status == HTTPStatus.OK, link
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Content-Security-Policy"] == "default-src 'none'"
            assert not response.headers["Content-Type"].startswith("application/octet-stream")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/playground/",
        "/playground.html",
        "/static/",
        "/static/../settings.py",
        "/static/..%2fsettings.py",
        "/socket.iox",
        "/favicon.ico",
        "//evil.example/",
        "/avatars",
        "/%00",
        "/é",
    ],
)
async def test_all_else_is_a_plain_404(path: str, address: str, http: aiohttp.ClientSession) -> None:
    async with http.get(URL(address + path, encoded=path.isascii())) as response:
        assert response.status == HTTPStatus.NOT_FOUND
        assert await response.text() == "Not found.\n"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/avatars/a/b/c", "/socket.io/?EIO=4&transport=polling"])
async def test_another_method_is_refused(method: str, path: str, address: str, http: aiohttp.ClientSession) -> None:
    async with http.request(method, address + path, data=b"x" * 100_000) as response:
        if method == "POST" and path.startswith("/socket.io"):
            assert response.status == HTTPStatus.BAD_REQUEST
        else:
            assert response.status == HTTPStatus.METHOD_NOT_ALLOWED
            assert "GET" in response.headers["Allow"]


async def test_a_file_may_be_asked_for_by_an_allowed_page(address: str, http: aiohttp.ClientSession) -> None:
    page: dict[str, Any] = {"Origin": "http://127.0.0.1:5173"}
    async with http.options(f"{address}/avatars/a", headers=page) as response:
        assert response.status == HTTPStatus.OK
        assert response.headers["Access-Control-Allow-Methods"] == "GET, HEAD"
        assert response.headers["Access-Control-Allow-Origin"] == page["Origin"]
