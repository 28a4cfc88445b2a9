"""The gateway as the process that the core starts: its real seed, its pipes, real clients."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.environments import catalog
from support.gateway_process import GatewayProcess
from support.piped_process import started
from support.socket_io import friend, joined_websocket, refusal

from waifu_llm.environment.seed import Seed
from waifu_llm.supervision.fields import gateway_options
from waifu_worker.framing import encode
from waifu_worker.wire import GatewayFailed, GatewayReady, Start

MODULE_TOKEN = "canary-of-the-module"
OWN_TOKEN = "canary-of-the-gateway"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[GatewayProcess]:
    seed = Seed(catalog().find("lollms")).place(tmp_path / "seed")
    with started(seed, dict(os.environ)) as (process, log):
        yield GatewayProcess(process, log, tmp_path / "data")


def begin(process: GatewayProcess, folder: Path, **options: Any) -> None:
    data = folder / "data"
    data.mkdir()
    settings = gateway_options(catalog().find("lollms"), options)
    start = Start(url="ws://127.0.0.1:1", token=MODULE_TOKEN, settings=settings, data_dir=str(data), log_level="debug")
    process.input.write(encode(start))


async def next_message(process: GatewayProcess) -> Any:
    return await asyncio.to_thread(process.next)


async def leaves(process: GatewayProcess) -> int:
    """End its input; its exit code."""
    process.input.close()
    return await asyncio.to_thread(process.wait)


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_it_serves_from_its_start_line_to_the_end_of_its_input(
    transport: str, process: GatewayProcess, tmp_path: Path
) -> None:
    begin(process, tmp_path, port=0)
    ready = await next_message(process)
    assert isinstance(ready, GatewayReady), ready
    assert ready.name == "lollms"
    assert ready.address.startswith("http://localhost:")
    async with joined_websocket(ready.address), friend(ready.address, [transport]) as client:
        await client.client.emit("list_available_personalities_languages")
        name, payload = await client.next()
        assert name == "available_personalities_languages_list"
        assert payload["success"], payload
        await client.client.emit("generate_text", {"prompt": "canary-of-a-prompt", "personality": -1})
        while (heard := await client.next())[0] != "text_generated":
            pass
        assert heard[1]["error"]
        # Nobody kills it here, so that it is done by itself, with clients still connected.
        assert await leaves(process) == 0
        await asyncio.wait_for(client.left.wait(), 20)
    said = process.stderr
    assert "Traceback" not in said
    for secret in (MODULE_TOKEN, "canary-of-a-prompt"):
        assert secret not in said


async def test_a_port_that_is_in_use_is_its_last_word(process: GatewayProcess, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        begin(process, tmp_path, port=port)
        failed = await next_message(process)
        assert isinstance(failed, GatewayFailed), failed
        assert f"port {port} on 127.0.0.1 is in use" in failed.message
        assert "gateway.lollms.port" in failed.message
        assert await asyncio.to_thread(process.wait) == 1
    assert "Traceback" not in process.stderr


async def test_its_own_token_lets_in_and_is_never_said(process: GatewayProcess, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(f"{OWN_TOKEN}\n")
    begin(process, tmp_path, port=0, token_file=str(file))
    ready = await next_message(process)
    assert isinstance(ready, GatewayReady), ready
    assert "A token is needed" in (await refusal(ready.address, "websocket", auth={"token": "wrong"}))["message"]
    async with friend(ready.address, ["websocket"], auth={"token": OWN_TOKEN}) as client:
        await client.client.emit("list_active_personalities")
        assert (await client.next())[0] == "active_personalities_list"
    assert await leaves(process) == 0
    assert OWN_TOKEN not in process.stderr


async def test_settings_that_cannot_be_are_its_last_word(process: GatewayProcess, tmp_path: Path) -> None:
    begin(process, tmp_path, port=0, host="0.0.0.0")
    failed = await next_message(process)
    assert isinstance(failed, GatewayFailed), failed
    assert "a token is needed" in failed.message
    assert await asyncio.to_thread(process.wait) == 1


async def test_an_end_before_the_start_line_is_an_end(process: GatewayProcess) -> None:
    assert await leaves(process) == 0
