"""Whom a command trusts that finds a module through its run file: the token goes to that one alone."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.waiting import bounded
from websockets.asyncio.server import ServerConnection, serve

from waifu_client import ModuleNotRunning
from waifu_llm.cli.reach import reach
from waifu_llm.paths import Home
from waifu_llm.runfile import RunningModule, running_modules, write_run_file

DATA = Path(__file__).parent / "data"
# Both were signed by the authority that stands behind the module's own certificate in its file.
OWN, STRANGER, EXPIRED = DATA / "chain.pem", DATA / "stranger.pem", DATA / "expired.pem"


@asynccontextmanager
async def listening(certificate: Path) -> AsyncIterator[tuple[str, list[str]]]:
    """The address of a server that shows this certificate, and the tokens that it was sent."""
    speaking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    speaking.load_cert_chain(certificate)
    tokens: list[str] = []

    async def hear(socket: ServerConnection) -> None:
        assert socket.request is not None
        tokens.extend(socket.request.headers.get_all("Authorization"))
        await socket.wait_closed()

    async with serve(hear, "127.0.0.1", 0, ssl=speaking) as server, bounded():
        yield f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}", tokens


def found(home: Path, url: str, certificate: Path) -> RunningModule:
    """What other commands find of a module that was started with this certificate."""
    write_run_file(Home(home), url, "a token", str(certificate))
    return running_modules(Home(home))[0]


@pytest.mark.parametrize("certificate", [OWN, EXPIRED])
async def test_the_module_itself_is_trusted_by_its_own_certificate(home: Path, certificate: Path) -> None:
    """Also when that has expired: one stops it to give it a new one."""
    async with listening(certificate) as (url, tokens):
        await (await reach(found(home, url, certificate))).aclose()
        assert tokens == ["Bearer a token"]


async def test_another_that_the_same_authority_has_signed_gets_no_token(home: Path) -> None:
    async with listening(STRANGER) as (url, tokens):
        with pytest.raises(ModuleNotRunning, match="a certificate that is not trusted here"):
            await reach(found(home, url, OWN))
        assert tokens == []
