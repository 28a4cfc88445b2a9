"""A web service that is strict where the real one is, and misbehaves where a scenario asks it to.

In a test: `async with running(OpenAI()) as upstream`. As a program: `python server.py --port 0` prints one line
`{"port": ...}` and serves until its input ends or a signal comes. `GET /__log` gives all exchanges so far;
`GET /__log?ended=N` waits until exchange N has ended.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, urlsplit

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fakes.upstream import openai_api
from fakes.upstream.compatible_api import XAI, Compatible, Mistral, Open, OpenRouter
from fakes.upstream.deepseek_api import DeepSeek
from fakes.upstream.groq_api import Groq
from fakes.upstream.http1 import Connection, Exchange, Output
from fakes.upstream.novelai_api import NovelAI
from fakes.upstream.ollama_api import Ollama
from fakes.upstream.openai_api import Reply
from fakes.upstream.scenario import parse
from fakes.upstream.streaming import JSON, OPENAI_EVENTS, answer, for_ever, reply, stream


class Api(Protocol):
    """One service's routes. A new service is a class like `OpenAI` beside its own module of shapes and rules."""

    async def answer(self, exchange: Exchange, out: Output) -> None:
        """Answer one request."""
        ...


class OpenAI:
    """`/v1` is the service; other roots stand for wrong addresses, which a load meets before any model is named."""

    ROOTS: Final[Mapping[str, Reply]] = {
        "/edge": openai_api.html(403, "Attention Required! | Cloudflare"),
        "/page": openai_api.html(200, "Welcome"),
        "/other": Reply(200, b'{"hello":"world"}'),
        "/moved": openai_api.with_headers(Reply(307, b""), Location="/v1/models"),
        "/down": openai_api.html(503, "503 Service Unavailable"),
        "/forbidden": openai_api.error(403, "Country not supported"),
    }

    async def answer(self, exchange: Exchange, out: Output) -> None:
        """Answer one request as the service does, or as the scenario in its model id wants it."""
        root = next((reply for path, reply in self.ROOTS.items() if exchange.path.startswith(path + "/")), None)
        refusal = root or openai_api.check_key(exchange.headers)
        match exchange.method, exchange.path:
            case _, path if path.startswith("/silent/"):
                await out.stall()
            case _, path if path.startswith("/endless/"):
                await out.head(200, JSON)
                await for_ever(out, b" " * 1024 * 1024)
            case _, path if path.startswith("/cut/"):
                await out.head(200, JSON)
                await out.chunk(b'{"data": [')
                out.close()
            case _ if refusal is not None:
                await reply(out, refusal)
            case "GET", "/v1/models":
                await answer(exchange, out, openai_api.model_list(exchange.headers))
            case "POST", "/v1/chat/completions":
                await self._chat(exchange, out)
            case method, path:
                await reply(out, openai_api.error(404, f"Invalid URL ({method} {path})"))

    async def _chat(self, exchange: Exchange, out: Output) -> None:
        try:
            assert exchange.headers.get("content-type", "").split(";")[0] == "application/json"
            body = exchange.json()
            assert isinstance(body, dict)
            scenario = parse(body["model"])
        except (AssertionError, ValueError, KeyError, TypeError) as problem:
            await reply(out, openai_api.error(400, f"We could not parse your request: {problem!r}"))
            return
        refusal = openai_api.check_request(body, scenario)
        if scenario.error == "echo-key":
            refusal = openai_api.error(500, f"debug: {exchange.headers}")
        if refusal is not None:
            await reply(out, refusal)
        elif not body.get("stream") or scenario.fail == "plain-json":
            await answer(exchange, out, openai_api.completion(body, scenario))
        else:
            await stream(out, OPENAI_EVENTS, scenario, openai_api.stream(body, scenario))


class Upstream:
    """A running fake service. `exchanges`: every request so far, in order; `accepted`: how many connections."""

    def __init__(self, api: Api) -> None:
        self.exchanges: list[Exchange] = []
        self.port = 0
        self._api = api
        self._connections: set[Connection] = set()
        self.accepted = 0
        self._admitted = asyncio.Event()

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self.port}"

    async def exchange(self, number: int) -> Exchange:
        """The exchange of that number, from 0, once its request has come."""
        while len(self.exchanges) <= number:
            self._admitted.clear()
            await self._admitted.wait()
        return self.exchanges[number]

    def connect(self) -> Connection:
        """The protocol of a new connection."""
        self.accepted += 1
        connection = Connection(self.accepted, self._admit, self._answer)
        self._connections.add(connection)
        return connection

    def stop(self) -> None:
        """Cut every connection."""
        for connection in self._connections:
            # One that is just being accepted has none yet.
            if hasattr(connection, "transport"):
                connection.transport.abort()

    def _admit(self, exchange: Exchange) -> None:
        if exchange.path != "/__log":
            exchange.number = len(self.exchanges)
            self.exchanges.append(exchange)
            self._admitted.set()

    async def _answer(self, exchange: Exchange, out: Output) -> None:
        if exchange.path != "/__log":
            await self._api.answer(exchange, out)
            return
        query = parse_qs(urlsplit(exchange.target).query)
        if "ended" in query:
            await (await self.exchange(int(query["ended"][0]))).ended.wait()
        records: list[dict[str, Any]] = [exchange.record() for exchange in self.exchanges]
        await out.whole(200, JSON, json.dumps(records).encode())
        return


@asynccontextmanager
async def running(api: Api, port: int = 0) -> AsyncIterator[Upstream]:
    """Serve `api` on a port of 127.0.0.1, 0 for any free one."""
    upstream = Upstream(api)
    server = await asyncio.get_running_loop().create_server(upstream.connect, "127.0.0.1", port)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        upstream.stop()
        await asyncio.sleep(0)
        await server.wait_closed()


APIS: Final[Mapping[str, type[Api]]] = {
    "novelai": NovelAI,
    "ollama": Ollama,
    "openai": OpenAI,
    "groq": Groq,
    "deepseek": DeepSeek,
    "compatible": Compatible,
    "open": Open,
    "openrouter": OpenRouter,
    "mistral": Mistral,
    "xai": XAI,
}


async def _serve(api: str, port: int) -> None:
    async with running(APIS[api](), port) as upstream:
        sys.stdout.write(json.dumps({"port": upstream.port}) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Serve until the end of the input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--api", choices=sorted(APIS), default="openai")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.api, arguments.port))


if __name__ == "__main__":
    main()
