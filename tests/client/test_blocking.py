"""The blocking client against a scripted module that runs in a thread of its own."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
from support.scripted_module import Peer, Script, answer, done, scripted
from support.waiting import WAIT_S

import waifu_client
from waifu_client import Usage
from waifu_client.blocking import _LoopThread
from waifu_client.protocol import (
    Close,
    CloseAck,
    ErrorCode,
    GetProviders,
    GetProvidersDone,
    GetStats,
    GetStatsDone,
    Unload,
    UnloadDone,
)


@contextmanager
def in_a_thread(script: Script) -> Iterator[str]:
    """The address of a scripted module; its complaints are raised at the end."""
    address: list[str] = []
    serving, leave = threading.Event(), threading.Event()
    trouble: list[BaseException] = []

    async def serve() -> None:
        async with scripted(script) as module:
            address.append(module.url)
            serving.set()
            await asyncio.to_thread(leave.wait, WAIT_S)
            await module.over()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert serving.wait(WAIT_S)
    try:
        yield address[0]
    finally:
        leave.set()
        thread.join(WAIT_S)
    if trouble:
        raise trouble[0]


def test_every_call_works_and_waits(no_leaks: None) -> None:
    async def script(peer: Peer) -> None:
        load = await peer.accept_load()
        assert (load.api_key, load.fields, load.progress) == ("k", {"base_url": "u"}, True)
        await peer.accept_models("m")
        await peer.send(answer(await peer.accept_generate(), "Hello"))
        ask = await peer.take(GetProviders)
        await peer.send(GetProvidersDone(unique_request_id=ask.unique_request_id, providers=["echo"]))
        unload = await peer.take(Unload)
        await peer.send(
            UnloadDone(
                unique_request_id=unload.unique_request_id,
                provider=unload.provider,
                is_error=False,
                error=ErrorCode.SUCCESS,
            )
        )
        stats = await peer.take(GetStats)
        await peer.send(
            GetStatsDone(
                unique_request_id=stats.unique_request_id,
                is_error=False,
                error=ErrorCode.SUCCESS,
                workers=[],
                environments=[],
                connections=1,
                counters={},
            )
        )
        await peer.accept_interrupt()
        close = await peer.take(Close)
        await peer.send(CloseAck(unique_request_id=close.unique_request_id))

    with in_a_thread(script) as url, waifu_client.connect_blocking(url) as llm:
        assert llm.load("echo", api_key="k", base_url="u", on_progress=print).provider == "echo"
        assert llm.models().ids == ("m",)
        assert llm.generate("Hi", model_id="m").text == "Hello"
        assert llm.providers().names == ("echo",)
        llm.unload("echo")
        assert llm.stats().connections == 1
        assert llm.interrupt() == []
        llm.close_module()


def test_a_stream_is_read_in_a_plain_loop() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(done(await peer.accept_generate("a", "b"), usage=Usage(1, 2, 3), finish_reason="stop"))

    with in_a_thread(script) as url, waifu_client.connect_blocking(url) as llm:
        stream = llm.stream("Hi", model_id="m")
        assert list(stream) == ["a", "b"]
        assert (stream.usage, stream.finish_reason, stream.ignored) == (Usage(1, 2, 3), "stop", ())


@pytest.mark.parametrize("how", ["break", "exception", "close", "with"])
def test_leaving_the_loop_interrupts(how: str) -> None:
    async def script(peer: Peer) -> None:
        generate = await peer.accept_generate("a")
        assert (await peer.accept_interrupt()).target_request_id == generate.unique_request_id
        await peer.send(answer(await peer.accept_generate(), "goes on"))

    with in_a_thread(script) as url, waifu_client.connect_blocking(url) as llm:
        stream = llm.stream("Hi", model_id="m")
        assert stream.request_id
        match how:
            case "break":
                for _ in stream:
                    break
            case "exception":
                with pytest.raises(ZeroDivisionError):
                    for _ in stream:
                        raise ZeroDivisionError
            case "close":
                pieces = iter(stream)
                assert next(pieces) == "a"
                stream.close()
                assert list(pieces) == []
            case _:
                with stream:
                    next(iter(stream))
        assert llm.generate("Hi", model_id="m").text == "goes on"


def test_errors_are_the_same_exceptions() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept_generate("a")
        await peer.socket.close(1001)

    with in_a_thread(script) as url, waifu_client.connect_blocking(url) as llm:
        with pytest.raises(waifu_client.ConnectionLost, match="1001"):
            list(llm.stream("Hi", model_id="m"))
        with pytest.raises(waifu_client.InvalidPrompt):
            llm.generate([{"role": "nobody"}], model_id="m")


def test_where_no_module_runs_nothing_is_left_behind(no_leaks: None) -> None:
    with pytest.raises(waifu_client.ModuleNotRunning):
        waifu_client.connect_blocking("ws://127.0.0.1:1")


def test_a_closed_client_says_so() -> None:
    with in_a_thread(Peer.silence) as url:
        llm = waifu_client.connect_blocking(url)
        stream = llm.stream("Hi", model_id="m")
        llm.close()
        llm.close()
        stream.close()
        with pytest.raises(waifu_client.ConnectionLost, match="this client"):
            llm.models()


def test_closing_from_another_thread_ends_a_call_that_waits() -> None:
    waiting = threading.Event()

    async def script(peer: Peer) -> None:
        await peer.accept_generate()
        waiting.set()
        await peer.silence()

    ends: list[BaseException] = []
    with in_a_thread(script) as url:
        llm = waifu_client.connect_blocking(url)

        def call() -> None:
            try:
                llm.generate("Hi", model_id="m")
            except waifu_client.LLMError as error:
                ends.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        assert waiting.wait(WAIT_S)
        llm.close()
        thread.join(WAIT_S)
    assert isinstance(ends[0], waifu_client.ConnectionLost)


def test_a_call_that_is_given_up_before_it_begins_never_begins() -> None:
    begun: list[str] = []

    async def job() -> None:
        begun.append("job")

    thread = _LoopThread()
    given_up: Future[None] = Future()
    given_up.cancel()
    thread._run(job(), given_up)
    thread.stop()
    assert begun == []


def test_a_call_that_is_given_up_is_cancelled() -> None:
    running, cancelled = threading.Event(), threading.Event()

    async def job() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    thread = _LoopThread()
    given_up: Future[None] = Future()
    thread._run(job(), given_up)
    assert running.wait(WAIT_S)
    given_up.cancel()
    assert cancelled.wait(WAIT_S)
    thread.stop()


def test_a_call_that_comes_while_the_client_closes_ends_too() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    thread = _LoopThread()
    ends: list[BaseException] = []

    def call() -> None:
        while not ends:
            try:
                thread.run(forever())
            except waifu_client.ConnectionLost as error:
                ends.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    thread.stop()
    caller.join(WAIT_S)
    assert not caller.is_alive()
    thread.stop()


_PROGRAM = """
import sys, waifu_client
with waifu_client.connect_blocking(sys.argv[1]) as llm:
    try:
        if sys.argv[2] == "stream":
            for piece in llm.stream("Hi", model_id="m"):
                print(piece, flush=True)
        else:
            print("a", flush=True)
            llm.generate("Hi", model_id="m")
    except KeyboardInterrupt:
        print("stopped", flush=True)
    print(llm.generate("Hi", model_id="m").text, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to whole consoles only")
@pytest.mark.parametrize("call", ["stream", "generate"])
def test_ctrl_c_interrupts_what_runs_and_the_client_goes_on(call: str) -> None:
    generating = threading.Event()

    async def script(peer: Peer) -> None:
        generate = await peer.accept_generate(*(["a"] if call == "stream" else []))
        generating.set()
        assert (await peer.accept_interrupt()).target_request_id == generate.unique_request_id
        await peer.send(answer(await peer.accept_generate(), "goes on"))

    with in_a_thread(script) as url:
        program = subprocess.Popen([sys.executable, "-c", _PROGRAM, url, call], stdout=subprocess.PIPE, text=True)
        with program:
            assert program.stdout is not None
            assert program.stdout.readline() == "a\n"
            assert generating.wait(WAIT_S)
            program.send_signal(signal.SIGINT)
            assert program.communicate(timeout=WAIT_S)[0] == "stopped\ngoes on\n"
        assert program.returncode == 0
