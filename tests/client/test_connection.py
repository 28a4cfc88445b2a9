"""How a connection begins and ends: nobody there, refusals, a module that dies, one that says nothing."""

import asyncio
import base64
import hashlib
import socket
import ssl
from http import HTTPStatus
from pathlib import Path

import pytest
from support.scripted_module import Peer, answer, scripted
from support.waiting import bounded
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response

import waifu_client
from waifu_client import exchange as exchanges
from waifu_client.connection import READ_BYTES, Connection
from waifu_client.exchange import Exchange, patience
from waifu_client.protocol import (
    AnyReply,
    ErrorCode,
    ErrorReply,
    Generate,
    GenerateStreamChunk,
    GenerateStreamDone,
    GetStats,
    Message,
    encode_reply,
)

CERTIFICATE = Path(__file__).parents[1] / "server" / "data" / "localhost.pem"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_where_no_module_runs_the_error_says_what_to_run(free_port: int) -> None:
    async with bounded():
        with pytest.raises(waifu_client.ModuleNotRunning, match=rf"127\.0\.0\.1:{free_port}: run `waifu-llm serve`"):
            async with waifu_client.connect(f"ws://somebody:secret@127.0.0.1:{free_port}"):
                pass


async def test_a_server_that_is_no_websocket_is_no_module() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server, bounded():
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(waifu_client.ModuleNotRunning):
            await waifu_client.Client.open(f"ws://127.0.0.1:{port}")


async def test_a_server_that_does_not_answer_is_no_module() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        async with bounded():
            with pytest.raises(waifu_client.ModuleNotRunning):
                await Connection.open(f"ws://localhost:{deaf.getsockname()[1]}", None, open_s=0.01)


async def test_where_tls_fails_the_error_says_that_and_not_that_nothing_runs() -> None:
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(CERTIFICATE)
    async with scripted(Peer.silence, ssl=own) as module, bounded():
        url = module.url.replace("ws://127.0.0.1", "wss://localhost")
        with pytest.raises(
            waifu_client.ModuleNotRunning, match=r"answers at localhost:\d+ .* not trusted .* certificate"
        ):
            await waifu_client.Client.open(url)
        async with waifu_client.connect(url, tls=ssl.create_default_context(cafile=CERTIFICATE)):
            pass


async def test_an_address_that_is_none_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="not a WebSocket address, such as ws://127"):
        await waifu_client.Client.open("127.0.0.1:7562")


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (HTTPStatus.UNAUTHORIZED, waifu_client.AuthorizationError, "token"),
        (HTTPStatus.SERVICE_UNAVAILABLE, waifu_client.UnexpectedError, "too many connections"),
        (HTTPStatus.FORBIDDEN, waifu_client.UnexpectedError, "403"),
    ],
)
async def test_a_refusal_says_why(status: HTTPStatus, kind: type[waifu_client.LLMError], words: str) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(status, "")

    async with scripted(Peer.silence, process_request=refuse) as module, bounded():
        with pytest.raises(kind, match=words):
            await waifu_client.Client.open(module.url)


async def test_a_token_travels_as_a_bearer_header_and_without_one_there_is_none() -> None:
    seen: list[str | None] = []

    def look(connection: ServerConnection, request: Request) -> None:
        seen.append(request.headers.get("Authorization"))

    async with scripted(Peer.silence, process_request=look) as module, bounded():
        for token in (None, "", "geheim"):
            async with waifu_client.connect(module.url, token=token):
                pass
    assert seen == [None, None, "Bearer geheim"]


async def test_no_proxy_stands_between_a_client_and_its_own_machine(
    monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    async with scripted(Peer.silence) as module, bounded(), waifu_client.connect(module.url):
        pass


async def test_a_module_that_dies_ends_every_request_with_connection_lost() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept_generate("a")
        for _ in range(3):
            await peer.accept_generate()
        peer.socket.transport.abort()

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        pieces = aiter(llm.stream("Hi", model_id="m"))
        assert await anext(pieces) == "a"
        waiting = [asyncio.create_task(llm.generate("Hi", model_id="m")) for _ in range(3)]
        with pytest.raises(waifu_client.ConnectionLost):
            await anext(pieces)
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [waifu_client.ConnectionLost] * 3
        assert len({id(end) for end in ends}) == 3
        with pytest.raises(waifu_client.ConnectionLost):
            await llm.load("echo")


async def test_a_flood_of_small_pieces_leaves_turns_of_the_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    turn, in_turn = 0, dict[int, int]()
    deliver = Exchange.deliver

    def count(exchange: Exchange, item: AnyReply | waifu_client.LLMError) -> None:
        in_turn[turn] = in_turn.get(turn, 0) + len("a piece")
        deliver(exchange, item)

    async def script(peer: Peer) -> None:
        request = await peer.accept_generate()
        chunk = GenerateStreamChunk(unique_request_id=request.unique_request_id, chunk="a piece")
        frame = Frame(Opcode.TEXT, encode_reply(chunk)).serialize(mask=False)
        pieces.append(len(frame))
        peer.socket.transport.write(frame * 20_000)
        await peer.send(
            GenerateStreamDone(unique_request_id=request.unique_request_id, is_error=False, error=ErrorCode.SUCCESS)
        )

    async def tick() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    pieces: list[int] = []
    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        monkeypatch.setattr(Exchange, "deliver", count)
        ticking = asyncio.create_task(tick())
        text = "".join([piece async for piece in llm.stream("Hi", model_id="m")])
        ticking.cancel()
    assert text == "a piece" * 20_000
    assert max(in_turn.values()) <= 2 * READ_BYTES // pieces[0] * len("a piece")


async def test_the_close_code_and_its_reason_are_told() -> None:
    async def script(peer: Peer) -> None:
        await peer.take(Generate)
        await peer.socket.close(1013, "too slow")

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        with pytest.raises(waifu_client.ConnectionLost, match=r"1013: too slow"):
            await llm.generate("Hi", model_id="m")


async def test_an_error_that_belongs_to_no_request_explains_the_close() -> None:
    async def script(peer: Peer) -> None:
        await peer.take(Generate)
        await peer.send(
            ErrorReply(
                unique_request_id="", is_error=True, error=ErrorCode.UNEXPECTED, message="the message is over 16 MiB"
            )
        )
        await peer.socket.close(1009)

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        with pytest.raises(waifu_client.ConnectionLost, match=r"\(1009\): the message is over 16 MiB"):
            await llm.generate("Hi", model_id="m")


async def test_replies_that_came_before_the_end_are_still_read() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept_generate("a", "b")
        await peer.socket.close()

    got = []
    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        with pytest.raises(waifu_client.ConnectionLost):
            async for piece in llm.stream("Hi", model_id="m"):
                got.append(piece)
    assert got == ["a", "b"]


async def test_closing_the_client_ends_what_still_waits_and_can_be_repeated() -> None:
    taken = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.take(Generate)
        taken.set()
        await peer.silence()

    async with scripted(script) as module, bounded():
        llm = await waifu_client.Client.open(module.url)
        waiting = asyncio.create_task(llm.generate("Hi", model_id="m"))
        await taken.wait()
        await llm.aclose()
        await llm.aclose()
        with pytest.raises(waifu_client.ConnectionLost, match="this client"):
            await waiting


async def test_after_the_module_came_back_a_new_connection_works(no_leaks: None) -> None:
    async def once(peer: Peer) -> None:
        await peer.send(answer(await peer.accept_generate(), "."))

    port = 0
    for _ in range(2):
        async with scripted(once, port) as module, bounded(), waifu_client.connect(module.url) as llm:
            port = module.port
            assert (await llm.generate("Hi", model_id="m")).text == "."
            await module.over()


async def test_closing_is_bounded_where_the_module_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waifu_client.connection.CLOSE_S", 0.01)

    async def never_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        writer.write(handshake(key.split(b":")[1].strip()))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never_close, "127.0.0.1", 0) as server, bounded():
        llm = await waifu_client.Client.open(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await llm.aclose()


def handshake(key: bytes) -> bytes:
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


async def test_a_module_that_says_nothing_is_given_up() -> None:
    left: list[Exchange] = []
    silent = Exchange(GetStats(unique_request_id="1"), left.append)
    async with bounded():
        with pytest.raises(waifu_client.ConnectionLost, match=r"has not answered for 0\.001 s"):
            await silent.next(0.001)
    silent.leave()
    assert left == [silent] and silent.over


@pytest.mark.parametrize(
    ("timeout_ms", "seconds"),
    [(None, None), (0, None), (1, 0.001 + exchanges.GRACE_S), (60_000, 60 + exchanges.GRACE_S)],
)
def test_a_client_waits_a_little_longer_than_the_request_may_take(
    timeout_ms: int | None, seconds: float | None
) -> None:
    assert patience(timeout_ms) == seconds


async def test_messages_are_taken_as_structs_too() -> None:
    async def script(peer: Peer) -> None:
        generate = await peer.accept_generate()
        assert generate.messages == [Message(role="system", content="Be brief."), Message(role="user", content="Hi")]
        await peer.send(answer(generate, "."))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        turns = [Message(role="system", content="Be brief."), Message(role="user", content="Hi")]
        await llm.generate(turns, model_id="m")


def test_a_shell_completes_all_names_of_the_package() -> None:
    assert dir(waifu_client) == sorted(waifu_client.__all__)
