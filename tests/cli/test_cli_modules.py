"""`serve`, `ps`, `stop`, `chat` and `models` with a module that runs as a process of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.upstream.openai_api import GOOD_KEY
from support.command_line import PROGRAM, Cli, Module
from support.upstream import upstream_process
from support.waiting import WAIT_S, wait_gone, wait_until

from waifu_client import connect_blocking
from waifu_llm.paths import Home
from waifu_llm.runfile import write_run_file

Serve = Callable[..., Module]
CERTIFICATE = Path(__file__).parents[1] / "server" / "data" / "localhost.pem"
WRITES_A_RUN_FILE = """
import sys
from pathlib import Path
from waifu_llm.paths import Home
from waifu_llm.runfile import write_run_file
write_run_file(Home(Path(sys.argv[1])), sys.argv[2], None)
print("written", flush=True)
sys.stdin.read()
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


def run_files(home: Path) -> list[str]:
    return [file.name for file in (home / "run").glob("*")]


def test_a_module_serves_until_it_is_stopped(cli: Cli, serve: Serve, home: Path) -> None:
    module = serve()
    assert run_files(home) == [f"{module.process.pid}.json"]
    ran = cli("stop")
    assert (ran.code, ran.err) == (0, f"the module at {module.url} is stopped\n")
    assert module.process.wait(WAIT_S) == 0
    assert run_files(home) == []


def test_the_log_has_when_a_module_started_and_why_it_stopped(cli: Cli, serve: Serve) -> None:
    """Until something went wrong there was no log at all (#2)."""
    module = serve()
    wait_until(lambda: "started: " in cli("logs", "waifu-llm").out, "the log has the start")
    (started,) = cli("logs", "waifu-llm").out.splitlines()
    assert f"started: {module.url}, version " in started
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO ", started)
    cli("stop")
    assert module.process.wait(WAIT_S) == 0
    *_, asked, stopping = cli("logs", "waifu-llm").out.splitlines()
    assert asked.endswith("a client asked the module to stop")
    assert stopping.endswith("stopping")


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_stop_a_module(serve: Serve, home: Path, number: int, code: int) -> None:
    module = serve()
    module.process.send_signal(number)
    assert module.process.wait(WAIT_S) == code
    assert run_files(home) == []


def test_without_a_module_there_is_nothing_to_show_or_stop(cli: Cli) -> None:
    assert cli("ps").err == "no module runs; `waifu-llm serve` starts one\n"
    assert json.loads(cli("ps", "--json").out) == []
    ran = cli("stop")
    assert (ran.code, ran.err) == (1, "waifu-llm: no module runs\n")


def test_a_chat_uses_the_module_that_runs_and_ps_shows_its_worker(
    cli: Cli, serve: Serve, installed: Callable[..., None]
) -> None:
    installed("echo")
    module = serve()
    first, second = cli("ps").out.splitlines()
    assert first.endswith(", no clients")
    assert second == "  no workers"
    with connect_blocking(module.url):
        assert cli("ps").out.splitlines()[0].endswith(", 1 client")
    assert cli("chat", "echo", "--prompt", "over the socket").out == "over the socket\n"
    first, heads, row = cli("ps").out.splitlines()
    assert first.startswith(f"{module.url}  pid {module.process.pid}, up ")
    assert heads.split()[:4] == ["NAME", "KIND", "STATE", "PID"]
    assert row.split()[:3] == ["echo", "provider", "ready"]
    (listed,) = json.loads(cli("ps", "--json").out)
    assert (listed["url"], listed["pid"]) == (module.url, module.process.pid)
    assert listed["workers"][0]["provider"] == "echo"
    assert listed["counters"]["echo"]["requests"]["SUCCESS"] >= 1
    assert "token" not in listed


def test_ps_shows_how_much_memory_a_worker_may_use(
    cli: Cli, serve: Serve, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("echo")
    monkeypatch.setenv("WAIFU_LLM_WORKERS_MEMORY_MB", "2048")
    serve()
    assert cli("chat", "echo", "--prompt", "hi").out == "hi\n"
    assert " of 2.0 GiB " in cli("ps").out.splitlines()[2]
    (listed,) = json.loads(cli("ps", "--json").out)
    assert listed["workers"][0]["memory_limit_bytes"] == 2**31


def test_one_providers_workers_are_stopped(cli: Cli, serve: Serve, installed: Callable[..., None]) -> None:
    installed("echo")
    serve()
    assert cli("models", "echo").out.split() == ["echo", "echo-slow", "lorem"]
    (listed,) = json.loads(cli("ps", "--json").out)
    pid = listed["workers"][0]["pid"]
    assert cli("stop", "echo").err == "echo is stopped\n"
    wait_gone([pid])
    assert cli("stop", "echo").err == "echo was not running\n"
    ran = cli("stop", "ehco")
    assert ran.code == 1
    assert "there is no provider 'ehco'" in ran.err


def test_an_environment_that_a_worker_runs_from_is_kept(
    cli: Cli, serve: Serve, installed: Callable[..., None], home: Path
) -> None:
    installed("echo")
    serve()
    cli("models", "echo")
    ran = cli("uninstall", "echo")
    assert ran.code == 1
    assert " stays: " in ran.err
    assert ran.err.endswith("run `waifu-llm stop echo` first\n")
    assert len(list((home / "envs").glob("echo-*"))) == 1


def test_a_module_that_takes_no_stop_from_clients_is_told_how_to_stop(
    cli: Cli, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told after as long as a stop may take (12 s)."""
    monkeypatch.setattr("waifu_llm.cli.stop_command._STOP_S", 1000 * WAIT_S)
    module = serve("--no-remote-close")
    ran = cli("stop")
    assert ran.code == 1
    assert ran.err.endswith(f"or run: kill {module.process.pid}\n")
    assert module.process.poll() is None


def test_a_token_of_the_module_is_found_by_its_own_user(
    cli: Cli, serve: Serve, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch, canary: str
) -> None:
    installed("echo")
    monkeypatch.setenv("WAIFU_LLM_TOKEN", canary)
    module = serve()
    monkeypatch.delenv("WAIFU_LLM_TOKEN")
    assert cli("chat", "echo", "--prompt", "hello").out == "hello\n"
    ran = cli("ps", "--json")
    assert json.loads(ran.out)[0]["url"] == module.url
    assert canary not in ran.out + ran.err


def test_a_load_that_fails_says_which_variables_the_module_that_runs_does_not_go_by(
    cli: Cli, serve: Serve, monkeypatch: pytest.MonkeyPatch, canary: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    serve()
    assert "variables" not in cli("models", "openai").err
    monkeypatch.setenv("OPENAI_API_KEY", canary)
    ran = cli("models", "openai")
    assert ran.code == 1
    assert "OpenAI needs an API key" in ran.err
    assert ran.err.endswith("it goes by its own variables, not by OPENAI_API_KEY of this shell)\n")
    assert canary not in ran.err


def test_a_module_with_a_certificate_of_its_own_is_found_by_its_own_user(
    cli: Cli, serve: Serve, home: Path, installed: Callable[..., None]
) -> None:
    """No authority of the system has signed it: it is in the run file, and its key is not."""
    installed("echo")
    module = serve("--tls-cert", str(CERTIFICATE), "--tls-key", str(CERTIFICATE))
    assert module.url.startswith("wss://")
    assert "PRIVATE KEY" not in next((home / "run").glob("*.json")).read_text()
    assert cli("chat", "echo", "--prompt", "hello").out == "hello\n"
    assert f"{module.url}  pid {module.process.pid}, up " in cli("ps").out
    assert "echo" in cli("ps").out, "the chat used it"
    assert cli("stop", "echo").err == "echo is stopped\n"
    assert cli("stop").err == f"the module at {module.url} is stopped\n"


@pytest.fixture
def deaf(home: Path) -> str:
    """A run file of a living process, this one, at whose address nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{probe.getsockname()[1]}"
    write_run_file(Home(home), url, None)
    return url


def test_a_module_that_does_not_answer_is_shown_as_such(cli: Cli, deaf: str) -> None:
    assert "  does not answer: " in cli("ps").out
    assert json.loads(cli("ps", "--json").out)[0]["error"]
    ran = cli("stop")
    assert ran.code == 1
    assert f"the module at {deaf} (pid {os.getpid()}) does not answer: " in ran.err


@pytest.mark.parametrize(
    ("provider", "failure", "stopped"),
    [
        ((), "the module at {} (pid {}) does not answer: ", "the module at {} is stopped\n"),
        (("echo",), "the module at {} (pid {}) did not stop echo: ", "echo was not running\n"),
    ],
)
def test_one_that_does_not_answer_keeps_no_other_from_being_stopped(
    cli: Cli, serve: Serve, home: Path, provider: tuple[str, ...], failure: str, stopped: str
) -> None:
    """The first of them ended the command, and it said nothing of the rest."""
    module = serve()
    with socket.socket() as bound:
        # It never listens, and nobody else can.
        bound.bind(("127.0.0.1", 0))
        silent = f"ws://127.0.0.1:{bound.getsockname()[1]}"
        # The newest comes first.
        argv = [sys.executable, "-c", WRITES_A_RUN_FILE, str(home), silent]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as newest:
            assert newest.stdout is not None
            assert newest.stdout.readline() == b"written\n"
            ran = cli("stop", *provider)
    assert ran.code == 1
    assert ran.err.startswith("waifu-llm: " + failure.format(silent, newest.pid))
    assert ran.err.endswith("\n" + stopped.format(module.url))


def test_a_module_that_cannot_say_where_it_is_does_not_start_and_says_so_in_one_line(cli: Cli, home: Path) -> None:
    home.mkdir()
    (home / "run").write_text("in the way")
    ran = cli("serve", "--port", "0")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"waifu-llm: the folder {home}/run cannot be made: File exists\n"


def test_a_command_with_a_module_of_its_own_leaves_no_run_file(
    cli: Cli, home: Path, installed: Callable[..., None]
) -> None:
    installed("echo")
    assert cli("chat", "echo", "--prompt", "x").code == 0
    assert not (home / "run").exists()


def test_a_chat_does_without_a_module_that_does_not_answer(cli: Cli, deaf: str, installed: Callable[..., None]) -> None:
    installed("echo")
    assert cli("chat", "echo", "--prompt", "all the same").out == "all the same\n"


def test_a_port_in_use_is_one_line_and_exit_code_1(serve: Serve) -> None:
    port = serve().url.rpartition(":")[2]
    done = subprocess.run([*PROGRAM, "serve", "--port", port], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"waifu-llm: port {port} on 127.0.0.1 is in use; ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--port", "99999"), "--port: 99999 is not a port"),
        (("--port", "http"), "--port: 'http' is not a port"),
        (("--prewarm", "ehco"), "--prewarm: there is no provider ehco; did you mean echo?"),
        (("--log-level", "loud"), "--log-level: 'loud' is not debug, info, warning or error"),
        (("--host", "0.0.0.0"), "set a token first"),
        (("--tls-cert", "cert.pem"), "tls_cert and tls_key belong together"),
    ],
)
def test_settings_that_cannot_be_served_are_wrong_usage(cli: Cli, arguments: tuple[str, ...], part: str) -> None:
    ran = cli("serve", "--port", "0", *arguments)
    assert ran.code == 2
    assert part in ran.err


def test_an_option_that_serve_sets_goes_before_the_providers_own_variable(
    cli: Cli, serve: Serve, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("openai")
    monkeypatch.setenv("OPENAI_API_KEY", GOOD_KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with upstream_process() as url:
        serve("--set", f"provider.openai.base_url={url}/v1")
        ran = cli("models", "openai")
    assert (ran.code, ran.err) == (0, "")
    assert "gpt-4o-mini" in ran.out.split()
