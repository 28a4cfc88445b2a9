"""What a command imports before it does what it is for: named, since a clock tells nothing on a busy machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.command_line import PROGRAM

from waifu_llm.late import RARELY

LISTENS = "waifu-llm listens at "
# Needed rarely, or only once clients and workers are there.
LATE = {
    "difflib", "filelock", "tomllib", "uv", "http.client", "urllib.request",
    "waifu_client.client", "waifu_client.connection", "websockets.asyncio.client", "websockets.client",
    "waifu_llm.cli.chat_command", "waifu_llm.cli.environments", "waifu_llm.config.example",
    "waifu_llm.environment.build", "waifu_llm.environment.verify",
}  # fmt: skip
if sys.platform == "linux":  # elsewhere the standard library needs some of them, or the system tells nothing without
    LATE |= {"ctypes", "psutil", "sysconfig"}
# What only those import that `waifu_llm.late` puts off: their own names stand in the report, whether they ran or not.
UNREAD = {
    "_bz2", "_hashlib", "_lzma", "_random", "_ssl", "calendar", "csv", "email._parseaddr", "email.message",
    "importlib.resources", "tempfile", "zipfile",
}  # fmt: skip
OURS = ("waifu_llm.", "waifu_worker.", "waifu_client.")
QUICK: dict[tuple[str, ...], set[str]] = {
    ("--version",): {"asyncio", "msgspec", *LATE},
    ("version", "--json"): {"asyncio", *LATE},
    ("ps",): {"asyncio", "logging", *LATE},
    ("keys", "list"): {"asyncio", "logging", *LATE},
    ("list",): {"websockets", "waifu_llm.module", "waifu_llm.server", *LATE} - {
        "waifu_llm.cli.environments", "sysconfig", "tomllib",  # what it tells lies in manifests and stamps
    },
}  # fmt: skip


def quiet_environ() -> dict[str, str]:
    """Coverage imports a lot of its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def imports_of(report: str) -> set[str]:
    """The modules in what `-X importtime` reports, with the packages that they lie in."""
    lines = (line for line in report.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.fixture
def imported_by_serve(home: Path) -> set[str]:
    """What `serve` imports until it says that it listens."""
    python, *program = PROGRAM
    command = [python, "-X", "importtime", *program, "serve", "--port", "0"]
    # Both streams in one pipe, so that what comes before the line is told from what comes after it.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=quiet_environ()
    ) as process:
        assert process.stdout is not None
        try:
            report = ""
            while not (line := process.stdout.readline()).startswith(LISTENS):
                assert line, report
                report += line
        finally:
            process.terminate()
            process.stdout.read()

    return imports_of(report)


def test_serve_listens_before_it_imports_what_only_clients_and_workers_need(imported_by_serve: set[str]) -> None:
    assert {"asyncio", "msgspec", "websockets.asyncio.server", "waifu_llm.server.server"} <= imported_by_serve
    assert not imported_by_serve & (LATE | UNREAD)
    assert imported_by_serve >= {*RARELY}, "nobody imports them: they need not be put off"


def test_no_class_of_ours_that_serve_imports_is_made_by_dataclass(imported_by_serve: set[str]) -> None:
    """Each of them costs as much as a hundred structs: half a millisecond."""
    ours = [name for name in imported_by_serve if name.startswith(OURS)]
    sources = {name: source_of(name) for name in ours}
    assert [name for name, source in sources.items() if "import dataclass" in source] == []


def source_of(module: str) -> str:
    base = Path(__file__).parents[2] / "core" / Path(*module.split("."))
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return file.read_text("utf-8")


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_a_quick_command_imports_no_more_than_it_needs(arguments: tuple[str, ...], home: Path) -> None:
    code = (
        "import sys; from waifu_llm.cli import main; "
        f"code = main({list(arguments)!r}); print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=quiet_environ(), check=True)
    modules = set(done.stderr.splitlines()[-1].split())
    assert "waifu_llm.cli" in modules
    assert not modules & QUICK[arguments]
