"""What happens to programs when others crowd, vanish, select, or when the processes beneath them die."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fakes.upstream.openai_api import GOOD_KEY
from fakes.upstream.server import OpenAI, running
from support.javascript_client import JavaScriptSocket, javascript
from support.published_client import TRANSPORTS, Published, published
from support.puppet import Puppet, puppet
from support.running_module import RunningModule, marked_children, running_module
from support.socket_io import Polling, joined_websocket, raw_websocket, read
from support.waiting import bounded, until, wait_gone

from waifu_client import connect

MANY = 50
LONG = "word " * 60  # more chunks than one answer to a poll holds packets


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def hand() -> AsyncIterator[Puppet]:
    async with puppet() as strings:
        yield strings


def state_file(home: Path) -> Path:
    return home / "data" / "lollms" / "lollms.yaml"


@asynccontextmanager
async def gateway(
    home: Path, state: str = "", providers: dict[str, dict[str, object]] | None = None, **settings: object
) -> AsyncIterator[tuple[RunningModule, str]]:
    """A module and the address of its gateway; `state` is lollms.yaml as somebody left it."""
    if state:
        state_file(home).parent.mkdir(parents=True, exist_ok=True)
        state_file(home).write_text(state, "utf-8")
    tables: dict[str, dict[str, object]] = {"lollms": {"enabled": True, "port": 0, **settings}}
    async with running_module(home, gateways=tables, providers=providers) as module:
        yield module, await module.gateway_address("lollms")


def free_port() -> int:
    """A port that is free on both loopback addresses, for a gateway that must come back to it."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port: int = server.getsockname()[1]
        return port


async def test_fifty_programs_of_both_libraries_and_both_transports_keep_their_long_answers_apart(
    home: Path, installed: Callable[..., None]
) -> None:
    installed("echo", "lollms")

    async def python(program: Published, number: int) -> None:
        words = f"python {number} " * 100
        assert await program.generate(words, personality=-(number % 2)) == words

    async def in_node(program: JavaScriptSocket, number: int) -> None:
        words = f"node {number} " * 100
        program.emit("generate_text", {"prompt": words, "personality": -(number % 2)})
        chunks = []
        while (heard := await program.next())[0] == "text_chunk":
            chunks.append(heard[1][0]["chunk"])  # type: ignore[index]
        assert heard[0] == "text_generated", heard
        assert "".join(chunks) == words == heard[1][0]["text"]  # type: ignore[index]

    async with gateway(home, "binding_name: echo\n") as (_, address), AsyncExitStack() as stack:
        jobs = []
        nodes = [await stack.enter_async_context(javascript(address, (transport,))) for transport in TRANSPORTS]
        for number in range(MANY // 2):
            program = await stack.enter_async_context(published(address, TRANSPORTS[number % 2]))
            jobs.append(python(program, number))
            jobs.append(in_node(await nodes[number % 2].connected(str(number)), number))
        assert len(jobs) == MANY
        await asyncio.gather(*jobs)


@pytest.mark.parametrize("leaves", ["politely", "politely while polling", "without a word"])
async def test_whoever_vanishes_in_mid_stream_ends_its_request_at_the_service_and_no_other(
    leaves: str, home: Path, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("openai", "lollms")
    monkeypatch.setenv("OPENAI_API_KEY", GOOD_KEY)
    state = "binding_name: openai\nmodel_name: gpt-4o-mini;fail=drip\n"
    asked = '42["generate_text",{"prompt":"Hi","personality":-1}]'
    async with running(OpenAI()) as upstream:
        providers: dict[str, dict[str, object]] = {"openai": {"base_url": f"{upstream.url}/v1"}}
        async with gateway(home, state, providers) as (_, address), published(address, "websocket") as staying:
            await staying.send("generate_text", {"prompt": "I stay", "personality": -1})
            await staying.reply("text_chunk")
            if leaves == "politely while polling":
                async with aiohttp.ClientSession() as http:
                    polling = Polling(http, address)
                    await polling.open()
                    await polling.next()
                    assert await polling.post(asked) == 200
                    assert "text_chunk" in await polling.next()
                    assert await polling.post("41") == 200
            else:
                async with joined_websocket(address) as leaver:
                    await leaver.send(asked)
                    assert "text_chunk" in await read(leaver)
                    if leaves == "politely":
                        await leaver.send("41")
                    else:
                        leaver.transport.abort()
            chats = [each for each in upstream.exchanges if each.method == "POST"]
            assert len(chats) == 2
            async with bounded():
                await chats[1].ended.wait()
            assert chats[1].end in ("eof", "reset")
            assert chats[0].end == ""
            await staying.reply("text_chunk")


async def test_a_binding_that_does_not_exist_is_told_and_another_one_is_chosen(
    transport: str, home: Path, installed: Callable[..., None]
) -> None:
    installed("echo", "lollms")
    state = (
        "# mine\nbinding_name: c_transformers # of the old server\nmodel_name: gpt4all\npersonalities: [no/such/one]\n"
    )
    async with gateway(home, state) as (_, address), published(address, transport) as program:
        for personality in (-1, 0):
            await program.send("generate_text", {"prompt": "Hi", "personality": personality})
            error = (await program.reply("generation_error"))["error"]
            assert (await program.reply("text_generated"))["error"] == error
            assert ("c_transformers" if personality == -1 else "no such personality") in error
        models = await program.ask("list_available_models", reply="available_models_list")
        assert models["success"] is False
        mounted = await program.ask("list_active_personalities", reply="active_personalities_list")
        assert mounted["personalities"] == ["one"]
        await program.select("echo")
        assert await program.generate("works") == "works"
    written = state_file(home).read_text("utf-8")
    assert written.startswith("# mine\nbinding_name: echo # of the old server\nmodel_name: echo\n")


@pytest.mark.parametrize("length", [0, 1])
async def test_a_queue_of_this_length_is_full_after_so_many(
    length: int, transport: str, home: Path, installed: Callable[..., None], hand: Puppet
) -> None:
    installed("fake", "lollms")
    state = "binding_name: fake\nmodel_name: puppet\n"
    providers: dict[str, dict[str, object]] = {"fake": {"puppet": hand.address}}
    async with (
        gateway(home, state, providers, queue_length=length) as (_, address),
        published(address, transport) as program,
        published(address, transport) as other,
    ):
        for number in range(length + 3):
            await program.send("generate_text", {"prompt": f"{number}", "personality": -1})
        for _ in range(2):
            assert set(await program.reply("buzzy")) == {"message"}
            assert set(await program.reply("busy")) == {"message"}
        await other.send("generate_text", {"prompt": "not my queue", "personality": -1})
        strands = [await hand.strand() for _ in range(2)]
        for strand in strands:
            await strand.finish()
        for number in range(length):
            strand = await hand.strand()
            assert strand.hello["messages"][-1][-1] == f"{number + 1}"  # type: ignore[index]
            await strand.finish()
        for _ in range(length + 1):
            assert "error" not in await program.reply("text_generated")
        assert "error" not in await other.reply("text_generated")


async def test_of_many_selects_at_once_the_last_is_what_all_generate_with(
    home: Path, installed: Callable[..., None]
) -> None:
    installed("echo", "lollms")
    async with gateway(home, "binding_name: echo\n") as (_, address), AsyncExitStack() as stack:
        programs = [await stack.enter_async_context(published(address, TRANSPORTS[number % 2])) for number in range(10)]
        models = [("echo", "echo-slow", "lorem")[number % 3] for number in range(10)]
        answers = await asyncio.gather(
            *(
                program.ask("select_model", {"model_name": model})
                for program, model in zip(programs, models, strict=True)
            )
        )
        for answer, model in zip(answers, models, strict=True):
            assert answer["model_name"] == model
            assert answer["success"] or answer["error"] == "superseded"
        assert any(answer["success"] for answer in answers)
        now = {
            (await program.ask("list_available_models", reply="available_models_list"))["model_name"]
            for program in programs
        }
        assert len(now) == 1
        assert f"model_name: {now.pop()}\n" in state_file(home).read_text("utf-8")


async def test_what_the_user_writes_into_the_file_meanwhile_is_never_lost_and_a_broken_one_never_overwritten(
    transport: str, home: Path, installed: Callable[..., None]
) -> None:
    installed("echo", "lollms")
    async with gateway(home) as (_, address), published(address, transport) as program:
        await program.select("echo")
        file = state_file(home)
        file.write_text("# by hand\nmy_own: [1, 2]\nn_predict: 3 # short\n" + file.read_text("utf-8"), "utf-8")
        lines = [line for line in file.read_text("utf-8").splitlines() if line != "n_predict: 1024"]
        file.write_text("\n".join(lines) + "\n", "utf-8")
        assert (await program.ask("select_model", {"model_name": "lorem"}))["success"] is True
        written = file.read_text("utf-8")
        assert "# by hand\nmy_own: [1, 2]\nn_predict: 3 # short\n" in written
        assert "model_name: lorem\n" in written
        assert await program.generate("Hi") == "lorem ipsum dolor"
        file.write_text("model_name: [unclosed\n", "utf-8")
        selected = await program.ask("select_model", {"model_name": "echo"})
        assert selected["success"] is True
        assert "could not be saved" in selected["warning"]
        assert file.read_text("utf-8") == "model_name: [unclosed\n"
        assert await program.generate("Hi") == "Hi"


async def test_a_gateway_that_is_killed_takes_no_other_client_down_and_its_own_come_back(
    transport: str, home: Path, installed: Callable[..., None]
) -> None:
    installed("echo", "lollms")
    async with (
        gateway(home, "binding_name: echo\n", port=free_port()) as (module, address),
        published(address, transport, reconnection=True) as program,
        connect(module.url) as client,
    ):
        back = asyncio.Event()
        program.client.on("connect", back.set)
        await client.load("echo")
        await program.client.emit("select_model", {"model_name": "echo-slow"})
        assert (await program.reply("select_model"))["success"] is True
        await program.send("generate_text", {"prompt": LONG, "personality": -1})
        async with client.stream(LONG, model_id="echo-slow") as stream:
            running_on = aiter(stream)
            pieces = [await anext(running_on)]
            await program.reply("text_chunk")
            (process,) = [child for child in marked_children() if "lollms-" in " ".join(child.cmdline())]
            process.kill()
            wait_gone([process.pid])
            pieces += [piece async for piece in running_on]
        assert "".join(pieces) == LONG
        assert await module.gateway_address("lollms") == address
        async with bounded():
            await back.wait()
        while not program.heard.empty():
            program.heard.get_nowait()
        assert await program.generate("after all", n_predicts=5) == "after all"


async def test_a_module_that_was_started_again_has_what_was_selected_and_its_programs_come_back(
    transport: str, home: Path, installed: Callable[..., None]
) -> None:
    installed("echo", "lollms")
    port = free_port()
    async with AsyncExitStack() as stack:
        back = asyncio.Event()
        async with gateway(home, port=port) as (_, address):
            program = await stack.enter_async_context(published(address, transport, reconnection=True))
            await program.select("lorem")
            added = await program.ask("add_personality", {"path": "french/generic/lollms"}, reply="personality_added")
            assert (await program.ask("activate_personality", {"id": 1}))["success"] is True
        program.client.on("connect", back.set)
        async with gateway(home, port=port) as (_, address):
            async with bounded():
                await back.wait()
            await until(lambda: program.client.connected, "it is back")
            assert await program.generate("Hi", personality=1, n_predicts=2) == "lorem ipsum"
            mounted: dict[str, Any] = await program.ask("list_active_personalities", reply="active_personalities_list")
            assert (mounted["personalities"][1], mounted["active_personality_id"]) == (added["name"], 1)
            await stack.aclose()


async def test_a_fresh_websocket_that_never_says_who_it_is_keeps_nobody_out(
    home: Path, installed: Callable[..., None]
) -> None:
    installed("echo", "lollms")
    async with gateway(home, "binding_name: echo\n", connections=1) as (_, address), AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(raw_websocket(address))
        async with published(address, "websocket") as program:
            assert await program.generate("Hi") == "Hi"
