"""TLS to services: whom a worker trusts, and when it reads certificates; real servers, of whose certificate one file
makes an authority.
"""

import asyncio
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import aiohttp.connector
import pytest
from support.waiting import bounded
from support.worker_process import ROOT

from waifu_worker import tls
from waifu_worker.http_client import HttpClient
from waifu_worker.provider import ProviderError
from waifu_worker.upstream import Upstream

CERTIFICATE = ROOT / "tests" / "server" / "data" / "localhost.pem"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"
WORKERS = ("openai", "groq", "deepseek", "openai_compatible", "novelai", "ollama")


@pytest.fixture(autouse=True)
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker that has just started, on a machine that trusts nobody."""
    monkeypatch.setattr(tls, "_made", [])
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(name, os.devnull)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve, speaking: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server, whose connections end with the block."""
    running: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running[task] = writer
        with suppress(OSError):
            await serve(reader, writer)
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=speaking) as server, bounded():
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            for writer in running.values():
                writer.transport.abort()
            await asyncio.gather(*running)


class Service:
    """A service over TLS. `asked`: the first lines of what came; `agreed`: the protocols of its connections."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.agreed: list[str | None] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.agreed.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        while head := await reader.read(65536):
            self.asked.append(head.partition(b"\r\n")[0])
            writer.write(ANSWER)


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    speaking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    speaking.load_cert_chain(CERTIFICATE)
    speaking.set_alpn_protocols(["h2", "http/1.1"])
    serving = Service()
    async with listening(serving.serve, speaking) as serving.port:
        yield serving


@asynccontextmanager
async def tunnel(port: int) -> AsyncIterator[str]:
    """The address of a proxy that leads whoever asks for a connection to this port, whatever its name."""

    async def flow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"CONNECT ")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(flow(reader, inner_writer), flow(inner_reader, writer))

    async with listening(serve) as own:
        yield f"http://127.0.0.1:{own}"


@asynccontextmanager
async def client(url: str) -> AsyncIterator[HttpClient]:
    made = HttpClient(aiohttp, Upstream("Acme", url), {})
    try:
        yield made
    finally:
        await made.close()


async def ask(url: str) -> bytes:
    """What the service answers to a load's request. Raises: ProviderError."""
    async with client(url) as connections:
        return await connections.get("/models")


async def test_a_service_whose_authority_is_in_the_file_of_the_variable_is_asked(trusting: None) -> None:
    async with service() as acme, client(acme.url) as connections:
        assert await connections.get("/models") == b"{}"
        assert await connections.read(await connections.stream("/chat", {})) == b"{}"
        assert acme.asked == [b"GET /models HTTP/1.1", b"POST /chat HTTP/1.1"]
        assert len(acme.agreed) == 1


async def test_a_service_whose_certificate_nobody_has_signed_gets_nothing() -> None:
    async with service() as acme, client(acme.url) as connections:
        said = rf"at localhost:{acme.port} \(.*certificate verify failed: self.signed certificate"
        with pytest.raises(ProviderError, match=said):
            await connections.get("/models")
        with pytest.raises(ProviderError, match=said):
            await connections.stream("/chat", {})
        assert acme.asked == []


@pytest.mark.parametrize(("authority", "said"), [(os.devnull, "self.signed certificate"), (CERTIFICATE, "mismatch")])
async def test_a_service_behind_a_proxy_is_checked_as_well(
    authority: Path | str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    async with service() as acme, tunnel(acme.port) as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        # The certificate is for localhost, which is never behind a proxy.
        with pytest.raises(ProviderError, match=said):
            await ask("https://acme.example")
        assert acme.asked == []


async def test_a_proxy_that_is_asked_over_tls_is_checked_also_for_a_service_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with service() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.raises(ProviderError, match="CERTIFICATE_VERIFY_FAILED"):
            await ask("http://acme.example/v1")
        monkeypatch.setattr(tls, "_made", [])
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        assert await ask("http://acme.example/v1") == b"{}"
        assert proxy.asked == [b"GET http://acme.example/v1/models HTTP/1.1"]


async def test_a_request_that_is_cancelled_while_certificates_are_read_leaves_them_to_the_next(
    trusting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, read = threading.Event(), ssl.create_default_context

    def slow() -> ssl.SSLContext:
        go_on.wait()
        return read()

    monkeypatch.setattr(ssl, "create_default_context", slow)
    async with service() as acme, client(acme.url) as connections:
        try:
            async with asyncio.TaskGroup() as tasks:
                cancelled = tasks.create_task(connections.get("/models"))
                other = tasks.create_task(connections.get("/models"))
                await asyncio.sleep(0)
                cancelled.cancel()
                await asyncio.wait([cancelled])
                assert not other.done()
                go_on.set()
        finally:
            go_on.set()
        assert cancelled.cancelled()
        assert other.result() == b"{}"


async def test_certificates_are_read_once_for_all_loads(trusting: None) -> None:
    async with service() as acme:
        await asyncio.gather(ask(acme.url), ask(acme.url))
    (made,) = tls._made
    assert tls.context() is made


async def test_a_service_is_checked_just_as_aiohttp_does_it(trusting: None) -> None:
    """Where an update of aiohttp changes what it makes, `tls.context` has to follow."""

    def facts(context: ssl.SSLContext) -> list[object]:
        limits = context.minimum_version, context.maximum_version, context.security_level
        checks = context.verify_mode, context.verify_flags, context.check_hostname, context.cert_store_stats()
        return [context.protocol, context.options, limits, checks, context.get_ciphers(), context.keylog_filename]

    theirs = aiohttp.connector._make_ssl_context(True)
    assert facts(tls.context()) == facts(theirs)
    async with service() as acme:
        async with aiohttp.ClientSession() as session, session.get(acme.url, ssl=theirs):
            pass
        await ask(acme.url)
        assert acme.agreed == ["http/1.1", "http/1.1"]


@pytest.mark.parametrize("before", [None, str(CERTIFICATE)])
def test_a_context_that_an_import_makes_knows_no_certificate(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name)
        if before is not None:
            monkeypatch.setenv(name, before)
    with pytest.raises(ImportError), tls.without_certificates():
        made = ssl.create_default_context()
        raise ImportError
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
    if sys.platform != "win32":
        assert made.cert_store_stats()["x509"] == 0
    assert {os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")} == {before}


_WORKER = """
import asyncio, gc, importlib, ssl, sys
sys.path[:0] = sys.argv[3:]
importlib.import_module(sys.argv[1])
import aiohttp
from waifu_worker.http_client import HttpClient
from waifu_worker.upstream import Upstream

async def main():
    async with aiohttp.ClientSession() as session:
        try:
            await session.get(sys.argv[2])
            print("accepted")
        except aiohttp.ClientError as error:
            print(type(error).__name__)
    client = HttpClient(aiohttp, Upstream("Acme", sys.argv[2]), {})
    print(len(await client.get("/models")))
    await client.close()

asyncio.run(main())
print([made.cert_store_stats()["x509"] for made in gc.get_objects() if isinstance(made, ssl.SSLContext)])
"""


async def said_by_a_worker(provider: str, url: str) -> list[str]:
    """What a process says that has imported what this worker does, of aiohttp alone, of our client, and of what was
    read; ours may have imported aiohttp in another way.
    """
    paths = [str(ROOT / "core"), str(ROOT / "workers" / provider)]
    command = [sys.executable, "-I", "-c", _WORKER, f"waifu_{provider}", url, *paths]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    return said.decode().splitlines()


@pytest.mark.parametrize("provider", WORKERS)
async def test_what_is_not_checked_with_the_certificates_is_refused(provider: str, trusting: None) -> None:
    async with service() as acme:
        alone, ours, read = await said_by_a_worker(provider, acme.url)
        assert (alone, ours) == ("ClientConnectorCertificateError", "2")
        assert acme.asked == [b"GET /models HTTP/1.1"]
    assert sorted(read) == sorted("[0, 0, 1]")


async def test_a_worker_of_a_service_without_tls_reads_no_certificate(trusting: None) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(ANSWER)

    async with listening(serve) as port:
        assert await said_by_a_worker("openai", f"http://127.0.0.1:{port}") == ["accepted", "2", "[0, 0]"]
