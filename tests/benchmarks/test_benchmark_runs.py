"""The benchmarks as they are run: what they stand on works, and the short form finds every answer right."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from benchmarks.answers import Wanted, full_text
from benchmarks.children import program, running, users_environment
from benchmarks.flood import flood
from benchmarks.latency import latencies
from benchmarks.load_generator import clients
from benchmarks.pacing import paced
from benchmarks.subject import Subject
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam
from support.waiting import WAIT_S, wait_gone

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the benchmarks need POSIX")


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with running("benchmarks.upstream") as (_, port):
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture(scope="module")
def chain(upstream: str) -> Iterator[Subject]:
    """The limit: bare pieces, which speak the protocol as far as it is measured."""
    with running("benchmarks.bare.relay", upstream) as (process, url):
        yield Subject(url, process.pid)


async def test_the_vendors_own_client_reads_what_the_upstream_sends(upstream: str) -> None:
    async with AsyncOpenAI(base_url=upstream, api_key="k") as client:
        assert (await client.models.list()).data[0].id == "gpt-4o-mini"
        prompt: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
        plain = await client.chat.completions.create(model=Wanted(n=7).model, messages=prompt)
        assert plain.choices[0].message.content == full_text(7)
        for wanted in (Wanted(n=3000), Wanted(n=3, rate=1000, delay=1)):
            stream = await client.chat.completions.create(model=wanted.model, messages=prompt, stream=True)
            texts = [event.choices[0].delta.content async for event in stream]
            assert "".join(filter(None, texts)) == full_text(wanted.n)


async def test_floods_latencies_and_paced_streams_find_no_fault_in_a_subject_that_has_none(chain: Subject) -> None:
    once = await flood(chain, streams=4, connections=3, chunks=400)
    assert (once.chunks, once.frames, len(once.first_s), dict(once.faults)) == (400, 408, 4, {})
    for stream in (True, False):
        found = await latencies(chain, stream=stream, requests=3, warm=1)
        assert (len(found.ack), len(found.first), len(found.total), dict(found.faults)) == (3, 3, 3, {})
    slow = await paced(chain, streams=4, connections=2, rate=50, seconds=0.5)
    assert (slow.expected, slow.delivered, dict(slow.faults)) == (100, 100, {})


async def test_a_relay_alone_writes_the_same_from_memory(upstream: str) -> None:
    with running("benchmarks.bare.relay", upstream, "memory") as (process, url):
        once = await flood(Subject(url, process.pid), streams=2, chunks=1000)
    assert (once.chunks, dict(once.faults)) == (1000, {})


async def test_the_bare_server_takes_clients(chain: Subject) -> None:
    with running("benchmarks.bare.server") as (_, url):
        async with clients(url, 3) as opened:
            assert len(opened) == 3


async def test_a_subject_without_a_worker_says_so() -> None:
    with running("benchmarks.bare.server") as (process, url), pytest.raises(LookupError):
        await asyncio.to_thread(Subject(url, process.pid).worker)


def test_what_is_measured_has_a_users_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONDONTWRITEBYTECODE", "WAIFU_LLM_SERVER_PORT", "OPENAI_BASE_URL", "COVERAGE_PROCESS_START"):
        monkeypatch.setenv(name, "1")
    found = users_environment({"WAIFU_LLM_HOME": "here"})
    assert "PATH" in found
    assert found["WAIFU_LLM_HOME"] == "here"
    assert not {"PYTHONDONTWRITEBYTECODE", "WAIFU_LLM_SERVER_PORT", "OPENAI_BASE_URL"} & set(found)


@pytest.mark.timeout(300)
def test_the_short_form_measures_the_product_and_finds_every_answer_right(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    argv, env = program("benchmarks.program", "--short", "--only", "latency", "start", "--json", str(file))
    done = subprocess.run(argv, env=env, capture_output=True, encoding="utf-8", timeout=10 * WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(file.read_text("utf-8"))
    assert record["bad"] == 0
    measured = record["rounds"][0]
    assert {"latency.plain", "latency.first_chunk", "start.listening", "load.cold", "memory.core"} <= set(measured)
    assert {"product", "limit"} <= set(measured["load.cold"])
    assert "bad: 0" in done.stdout


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--rounds", "0"]])
def test_a_wrong_argument_is_refused_before_anything_is_started(arguments: list[str]) -> None:
    argv, env = program("benchmarks.program", *arguments)
    done = subprocess.run(argv, env=env, capture_output=True, encoding="utf-8", timeout=WAIT_S, check=False)
    assert done.returncode == 2
    assert "usage: run.py" in done.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize(
    ("given", "first"),
    [
        (("benchmarks.program", "--only", "crowd"), "crowd, product"),
        (("benchmarks.growth_program", "--short"), "round 1/1"),
    ],
)
def test_a_run_that_is_told_to_stop_leaves_nothing_behind(
    given: tuple[str, ...], first: str, number: signal.Signals, code: int
) -> None:
    argv, env = program(*given)
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8") as run:
        assert run.stderr is not None
        assert first in run.stderr.readline()
        children = psutil.Process(run.pid).children(recursive=True)
        assert len(children) >= 6
        run.send_signal(number)
        assert run.wait(3 * WAIT_S) == code
    wait_gone(child.pid for child in children)
