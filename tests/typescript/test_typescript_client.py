"""Node programs against the real module: our TypeScript client's example, and clients as they were published."""

import asyncio
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.running_module import running_module
from support.waiting import bounded

EVERYDAY = Path(__file__).parent / "published" / "everyday.mjs"


@pytest.fixture(autouse=True)
def echo(installed: Callable[..., None]) -> None:
    installed("echo")


async def run(*argv: str | Path) -> str:
    """What a program prints; it must end well."""
    program = await asyncio.create_subprocess_exec(
        *map(str, argv), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with bounded():
            out, err = await program.communicate()
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    assert program.returncode == 0, err.decode()
    assert err == b""
    return out.decode()


async def test_the_example_of_the_typescript_client_runs(node: str, package: Path, home: Path) -> None:
    async with running_module(home) as module:
        said = await run(node, package / "dist" / "example_client.js", "echo", "", module.url)
    lines = said.splitlines()
    assert "[LOG] worker: starting" in lines
    assert "[OUT] AI: How are you feeling?" in lines
    assert "[OUT] AI: Tell me a long story." in lines
    assert lines[-1] == "[LOG] Done: stop."


async def test_what_npm_packs_is_built_and_whole(archive: Path) -> None:
    """From a fresh clone `npm pack` packed the README alone (#2)."""
    with tarfile.open(archive) as files:
        packed = {name.removeprefix("package/") for name in files.getnames()}
    assert {"package.json", "README.md", "dist/src/index.js", "dist/src/index.d.ts"} <= packed
    built = {name.removeprefix("dist/src/") for name in packed if name.startswith("dist/src/") and name.endswith(".js")}
    sources = Path(__file__).parents[2] / "clients" / "typescript" / "src"
    assert built == {source.with_suffix(".js").name for source in sources.glob("*.ts")}


async def test_where_the_platform_has_a_websocket_it_is_used(node: str, package: Path, home: Path) -> None:
    platform = (node, "--no-warnings", "--experimental-websocket")
    assert (await run(*platform, "-p", "typeof WebSocket")) == "function\n"
    async with running_module(home) as module:
        said = await run(*platform, package / "dist" / "example_client.js", "echo", "", module.url)
    assert said.splitlines()[-1] == "[LOG] Done: stop."


async def test_where_no_module_runs_the_example_says_what_to_do(node: str, package: Path) -> None:
    program = await asyncio.create_subprocess_exec(
        node,
        str(package / "dist" / "example_client.js"),
        "echo",
        "",
        "ws://127.0.0.1:1",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with bounded():
        _, err = await program.communicate()
    assert program.returncode == 1
    assert "waifu-llm serve" in err.decode()


async def test_the_typescript_clients_own_tests_pass(node: str, package: Path) -> None:
    said = await run(node, "--test", package / "dist" / "test" / "client.test.js")
    assert "fail 0" in said


async def test_a_published_client_works_unchanged(node: str, package: Path, home: Path) -> None:
    async with running_module(home) as module:
        found = json.loads(await run(node, EVERYDAY, module.url))
        assert await module.ended() == 0
    providers = found.pop("providers")
    assert "echo" in providers and providers == sorted(providers)
    assert found == {
        "modelsBeforeLoad": [],
        "generateBeforeLoad": "Failed to generate response. Error: INVALID_PROVIDER",
        "badProvider": "Failed to load provider. Error: INVALID_PROVIDER",
        "models": ["echo", "echo-slow", "lorem"],
        "modelsOfAnOlderClient": ["echo", "echo-slow", "lorem"],
        "response": "How are you feeling?",
        "stopsAtALineBreak": "one",
        "chunks": ["Write ", "me ", "a ", "story"],
        "streamWithFewParameters": "a\nb",
        "badModel": "Failed to generate response. Error: INVALID_MODEL",
        "emptyMessages": "Failed to generate response. Error: INVALID_PROMPT",
        "twoAtOnce": ["x y z", "1 2 3"],
        "interrupted": "Failed to stream response. Error: INTERRUPT",
        "closeCode": 1001,
        "complaints": [],
    }


async def test_the_lock_file_holds_no_registrys_address(package: Path) -> None:
    lock = json.loads((package / "package-lock.json").read_text("utf-8"))
    assert lock["packages"]
    assert not [name for name, entry in lock["packages"].items() if "resolved" in entry]
