"""Rows S5 to S7, S21, S22 and P17: a key, and what people write to a model, stay where they belong."""

import asyncio
import base64
import contextlib
import json
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from support.canary import Watch, watching
from support.pool_bench import Bench, job, make
from support.puppet import puppet
from support.running_module import marked_children, running_module, served
from support.waiting import WAIT_S, bounded, until
from support.worker_process import FAKE, make_seed, running

from waifu_client import Client, connect
from waifu_client.errors import LLMError
from waifu_llm import log
from waifu_llm.cli.quiet import log_to_file
from waifu_llm.config import LogSettings, ServerSettings, Settings
from waifu_llm.redaction import MASK, RECENT
from waifu_llm.server import Server
from waifu_llm.server.content import logged
from waifu_llm.stats import Statistics
from waifu_llm.supervision.jobs import Ending, Sink
from waifu_worker import wire

PROMPT = "a thought of the user's 5f1e9c7b2a8d6053"

PARAMS = wire.Params(model_id="segfault=0")


def forms_of(key: str) -> dict[str, str]:
    """How a key comes back from services and libraries."""
    basic = base64.b64encode(f"user:{key}".encode()).decode()
    return {
        "plain": key,
        "url": f"GET https://api.example/v1?key={quote(key, safe='')}&x=1",
        "lower-case url": f"https://api.example/{re.sub('%..', lambda it: it[0].lower(), quote(key, safe=''))}",
        "user of a url": f"https://{key}@api.example/v1",
        "bearer": f"Authorization: Bearer {key}",
        "basic": f"Authorization: Basic {basic}",
        "json": json.dumps({"api_key": key}),
        "repr": repr({"api_key": key}),
        "base64": base64.b64encode(key.encode()).decode(),
    }


@pytest.fixture
def odd(canary: str) -> str:
    """A key that every way of writing writes in another way."""
    return f'{canary}/"+\\ü'


# S5: argv and environment.


def watch_everybody(watch: Watch) -> None:
    watch.look_at_processes()
    watch.look_at("this process's arguments", "\0".join(sys.argv))


async def test_s5_during_a_load_the_key_is_in_nobodys_arguments_or_environment(
    home: Path, installed: Callable[..., None], watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("fake")
    monkeypatch.setenv("WAIFU_FAKE_API_KEY", watch.key)  # the user's own variable must not be handed on
    async with puppet() as hand, running_module(home) as module, connect(module.url) as llm:
        loading = asyncio.ensure_future(llm.load("fake", on_load="puppet", puppet=hand.address))
        strand = await hand.strand()
        assert strand.pid in {child.pid for child in marked_children()}
        watch_everybody(watch)
        strand.go()
        async with bounded():
            await loading
            assert '"has_key": true' in (await llm.generate("x", model_id="ids")).text


async def test_s5_during_an_installation_the_key_is_in_nobodys_arguments_or_environment(
    home: Path, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "uv 0.13.9" && exit 0\nexec sleep 1000\n')
    uv.chmod(0o700)
    monkeypatch.setattr("waifu_llm.environment.uv.find_uv", lambda: str(uv))
    monkeypatch.setenv("WAIFU_FAKE_API_KEY", watch.key)
    async with running_module(home) as module, connect(module.url) as llm:
        loading = asyncio.ensure_future(llm.load("fake", api_key=watch.key))
        await until(lambda: any("sleep" in child.name() for child in marked_children()), "uv runs")
        watch_everybody(watch)
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading


# S6: logs and messages.


@contextlib.asynccontextmanager
async def in_memory(folder: Path) -> AsyncIterator[tuple[Bench, Client]]:
    """A real server over a pool whose workers the test plays."""
    bench = make(folder)
    server = Server(bench.pool, Settings(server=ServerSettings(port=0)), Statistics(), bench.redactor)
    host, port = await server.start()
    try:
        async with connect(f"ws://{host}:{port}") as llm:
            yield bench, llm
    finally:
        await server.drain()
        await bench.pool.close()


@pytest.mark.parametrize("form", forms_of("x"))
async def test_s6_no_form_of_a_key_reaches_a_log_or_a_message(
    tmp_path: Path, home: Path, watch: Watch, odd: str, form: str
) -> None:
    said = forms_of(odd)[form]
    with log_to_file(home / "logs", "debug"):
        async with in_memory(tmp_path) as (bench, llm):
            loading = asyncio.ensure_future(llm.load("fake", api_key=odd, on_progress=lambda _: None))
            process = await bench.spawn.next_ready()
            load = await process.next_sent(wire.Load)
            process.say(wire.Progress(id=load.id, stage="provider", detail=said, fraction=None))
            process.complain(f"a library says {said}\n")
            process.write_raw(f"a stray line: {said}\n".encode())
            process.say(wire.Done(id=load.id, models=(), warning=said))
            async with bounded():
                await loading
            asking = asyncio.ensure_future(llm.generate(PROMPT, model_id="m"))
            generate = await process.next_sent(wire.Generate)
            process.say(wire.Failed(id=generate.id, error=wire.Code.UNEXPECTED, message=said))
            with pytest.raises(LLMError):
                await asking
            asking = asyncio.ensure_future(llm.generate(PROMPT, model_id="m"))
            await process.next_sent(wire.Generate)
            process.complain(f"last words: {said}")
            process.exit(1)
            with pytest.raises(LLMError, match="redacted"):
                await asking
            assert log.flush(WAIT_S)
    watch.look_at_files(tmp_path)
    assert MASK in (tmp_path / "logs" / "fake.log").read_text("utf-8")


async def test_s6_model_text_is_never_touched(tmp_path: Path) -> None:
    key = "key-that-a-model-was-told"
    async with in_memory(tmp_path) as (bench, llm):
        loading = asyncio.ensure_future(llm.load("fake", api_key=key))
        process = await bench.spawn.loaded()
        await loading
        asking = asyncio.ensure_future(llm.generate(PROMPT, model_id="m"))
        generate = await process.next_sent(wire.Generate)
        process.say(wire.Chunk(id=generate.id, texts=(f"the key is {key}",)), wire.Done(id=generate.id))
        async with bounded():
            assert (await asking).text == f"the key is {key}"


async def test_s6_the_redactor_forgets_what_no_load_uses(tmp_path: Path) -> None:
    bench = make(tmp_path, idle_s=0.001)
    used = "key-of-the-client-that-stays"
    first = asyncio.ensure_future(bench.pool.load(bench.fields(api_key=used), "stays"))
    await bench.spawn.loaded()
    await first
    for number in range(RECENT + 5):
        loading = asyncio.ensure_future(bench.pool.load(bench.fields(api_key=f"key-of-client-{number:05}"), "c"))
        process = await bench.spawn.loaded()
        await loading
        bench.pool.release("c")
        await process.end()
    assert bench.redactor.scrub(used) == MASK
    assert bench.redactor.scrub("key-of-client-00000") == "key-of-client-00000"
    assert bench.redactor.scrub(f"key-of-client-{RECENT:05}") == MASK
    await bench.pool.close()


async def test_s6_one_clients_key_garbles_no_other_clients_messages(tmp_path: Path) -> None:
    bench = make(tmp_path)
    for key in ("the ", "worker", "ollama"):
        loading = asyncio.ensure_future(bench.pool.load(bench.fields(api_key=key), key))
        process = await bench.spawn.loaded()
        await loading
        process.complain(f"I was given {key}\n")
    assert bench.redactor.scrub("the worker of ollama") == "the worker of ollama"
    assert log.flush(WAIT_S)
    lines = (tmp_path / "logs" / "fake.log").read_text("utf-8").splitlines()
    assert [line.partition(" ")[2] for line in lines] == [f"I was given {MASK}"] * 3
    await bench.pool.close()


def test_s6_passwords_of_proxies_and_indexes_are_in_no_log(home: Path, watch: Watch) -> None:
    environ = {
        "HTTPS_PROXY": f"http://me:{watch.key}@127.0.0.1:9",
        "UV_INDEX_MINE_PASSWORD": watch.key,
        "WAIFU_LLM_UV_INDEX": f"https://{watch.key}@127.0.0.1:9/simple",
        "WAIFU_LLM_LOG_LEVEL": "debug",
    }
    with watching("another key"), served(env=environ) as module:
        module.signal(signal.SIGTERM)
        assert module.wait() == 0
    watch.look_at_files(home)


# S7: core dumps.


def core_limit(pid: int) -> list[str]:
    limits = Path(f"/proc/{pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    return line.split()[4:6]


async def test_s7_neither_the_module_nor_what_it_starts_leaves_a_core_dump(
    home: Path, installed: Callable[..., None]
) -> None:
    installed("echo")
    with served() as module:
        async with connect(module.url) as llm:
            await llm.load("echo")
            processes = [module.process.pid, *(child.pid for child in psutil.Process(module.process.pid).children())]
            assert len(processes) >= 3  # the core, its guardian, the worker
            assert [core_limit(pid) for pid in processes] == [["0", "0"]] * len(processes)


def test_s7_a_worker_that_dies_of_a_segmentation_fault_leaves_none(tmp_path: Path) -> None:
    with running(make_seed(tmp_path / "fake", FAKE)) as worker:
        worker.send(wire.Load(id=1, ctx=1, api_key="k"), wire.Generate(id=2, ctx=1, params=PARAMS, prompt="x"))
        _, status = os.waitpid(worker.process.pid, 0)
        assert os.WTERMSIG(status) == signal.SIGSEGV
        assert not os.WCOREDUMP(status)


# S21: errors of others.


async def test_s21_an_error_that_nobody_meant_is_one_short_line_that_says_where_the_log_is(
    home: Path, installed: Callable[..., None]
) -> None:
    installed("fake")
    async with running_module(home) as module, connect(module.url) as llm:
        await llm.load("fake")
        for model in ("raise", "leak"):
            with pytest.raises(LLMError) as caught:
                await llm.generate("x", model_id=model)
            said, _, where = caught.value.message.rpartition(" (the log has more: ")
            assert where == "waifu-llm logs fake)"
            assert said.startswith("RuntimeError: ")
            assert len(said) <= 300
            assert "\n" not in said
            assert "Traceback" not in said
    assert "Traceback" in (home / "logs" / "fake.log").read_text("utf-8")


# S22: what people write.


async def talk(llm: Client) -> None:
    await llm.load("fake")
    async with bounded():
        assert (await llm.generate(PROMPT, model_id="echo")).text
        async for _ in llm.stream(PROMPT, model_id="echo"):
            pass
        for model in ("exit=1", "raise", "no-such-model"):
            with pytest.raises(LLMError):
                await llm.generate(PROMPT, model_id=model)


async def test_s22_prompts_and_answers_are_in_no_log_though_it_says_everything(
    home: Path, installed: Callable[..., None]
) -> None:
    installed("fake")
    with log_to_file(home / "logs", "debug"):
        async with running_module(home) as module, connect(module.url) as llm:
            await talk(llm)
    thoughts = Watch(PROMPT)
    thoughts.look_at_files(home)
    assert thoughts.found == []
    assert (home / "logs" / "waifu-llm.log").stat().st_size > 0


async def test_s22_content_that_is_asked_for_is_logged_without_keys(
    home: Path, installed: Callable[..., None], watch: Watch
) -> None:
    installed("fake")
    with log_to_file(home / "logs", "debug") as redactor:
        redactor.add(watch.key)
        logs = LogSettings(level="debug", content=True)
        async with running_module(home, logs=logs) as module, connect(module.url) as llm:
            await talk(llm)
            with pytest.raises(LLMError):
                await llm.generate(f"my key is {watch.key}", model_id="no-such-model")
    lines = (home / "logs" / "waifu-llm.log").read_text("utf-8").splitlines()
    said = [line.partition("waifu_llm.server.content: ")[2] for line in lines if "server.content" in line]
    assert len([line for line in said if line.startswith("prompt (fake, echo): ") and PROMPT in line]) == 2
    assert len([line for line in said if line.startswith("answer (fake, echo, SUCCESS): ")]) == 2
    assert any(f"my key is {MASK}" in line for line in said)
    assert any(line.startswith("answer (fake, raise, UNEXPECTED): ") for line in said)


class Heard:
    """A sink that keeps what it hears."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.endings: list[Ending] = []

    def chunks(self, texts: Sequence[str]) -> None:
        self.texts += texts

    def ended(self, ending: Ending) -> None:
        self.endings.append(ending)


def test_s22_content_that_is_asked_for_is_a_line_each_cut_where_long(caplog: pytest.LogCaptureFixture) -> None:
    heard, end = Heard(), Ending(None)
    caplog.set_level(logging.DEBUG, "waifu_llm.server.content")
    sink: Sink = logged(heard, "fake", job("two\nlines"))
    for _ in range(40):
        sink.chunks(["x" * 1000])
    sink.ended(end)
    prompt, answer = caplog.messages
    assert prompt == 'prompt (fake, m): "two\\nlines"'
    assert answer.startswith('answer (fake, m, SUCCESS): "xxx')
    assert len(answer) < 17_000
    assert (heard.texts, heard.endings) == (["x" * 1000] * 40, [end])


def test_s22_at_other_levels_not_even_asked_for_content_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    caplog.set_level(logging.INFO, "waifu_llm.server.content")
    assert logged(heard, "fake", job()) is heard
    assert caplog.messages == []


# P17: the canary itself.


@pytest.mark.parametrize("place", ["argument", "variable", "file", "name", "end of it", "base64"])
def test_p17_the_watch_finds_a_key_that_leaks(tmp_path: Path, place: str) -> None:
    key = "canary-0123456789abcdef-fedcba98"
    found = Watch(key)
    match place:
        case "argument" | "variable":
            argv = [sys.executable, "-c", "input()", *([key] if place == "argument" else [])]
            environ = {**os.environ, **({"LEAK": key} if place == "variable" else {})}
            with psutil.Popen(argv, env=environ, stdin=-1) as child:
                found.look_at_processes()
                child.kill()
        case "name":
            (tmp_path / f"{key}.log").touch()
        case "file":
            (tmp_path / "a.log").write_text(f"x{key}x")
        case "end of it":
            (tmp_path / "a.log").write_text(f"...{key[-8:]}")
        case _:
            (tmp_path / "a.log").write_bytes(base64.b64encode(key.encode()))
    (tmp_path / "keys.json").write_text(key)
    found.look_at_files(tmp_path)
    assert len(found.found) == 1
