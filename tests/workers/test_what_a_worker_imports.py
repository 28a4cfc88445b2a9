"""What the process of an API worker has imported by the time it is ready: no more than it needs."""

import os
import subprocess
import sys
from typing import Final

import pytest
from support.worker_process import ROOT

# As a seed does it; what was imported and has not run is left out.
_LIST: Final = "import sys; sys.path[:0] = sys.argv[2:]; from waifu_worker import late\n\
late.postpone(late.IN_A_WORKER); import waifu_worker.runtime, importlib; importlib.import_module(sys.argv[1])\n\
print(*(name for name, module in sys.modules.items() if type(module).__name__ != '_Unread'))"

# What all of them use of the wire, and what speaks HTTP.
_OURS: Final = {
    *("framing", "generation", "heap", "input", "late", "messages", "output", "provider", "requests", "runtime"),
    *("scrub", "stdio", "text", "wire", "addresses", "chat_dialect", "http_client", "http_errors", "tls", "upstream"),
}
_CHAT: Final = {"chat_completions", "chat_stream", "sse"}
_HTTP: Final = {
    *("aiohttp", "aiohappyeyeballs", "aiosignal", "attr", "attrs", "frozenlist", "idna", "msgspec", "multidict"),
    *("propcache", "yarl", "typing_extensions", "cython_runtime", "sitecustomize"),
}
# Each costs milliseconds, and what asks for one of them asks for what a worker of a web service never does.
_NEVER: Final = {
    *("aiohttp.web", "aiohttp.pytest_plugin", "aiohttp.test_utils", "asyncio.__main__", "cgi", "ctypes", "distutils"),
    *("importlib.metadata", "logging.config", "multiprocessing", "pdb", "pydoc", "pkg_resources", "setuptools"),
    *("sqlite3", "unittest", "xml", "xmlrpc", "zipfile", "csv", "argparse", "webbrowser", "http.server", "doctest"),
    *("dataclasses", "_bz2", "_lzma", "asyncio.sslproto", "attr.validators", "msgspec.inspect", "shutil", "tokenize"),
}


def modules(package: str) -> set[str]:
    """All that a process has imported that serves this provider; our own interpreter may have had much more."""
    folders = [str(ROOT / "core"), str(ROOT / "workers" / package.removeprefix("waifu_"))]
    said = subprocess.run(
        [sys.executable, "-I", "-c", _LIST, package, *folders],
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        # What measures the tests' coverage would be measured along.
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")},
    )
    return set(said.stdout.split())


@pytest.mark.parametrize(
    ("provider", "ours"),
    [
        ("openai", _CHAT),
        ("groq", _CHAT),
        ("deepseek", _CHAT),
        ("openai_compatible", _CHAT),
        ("novelai", _CHAT),
        ("ollama", set()),
    ],
)
def test_a_worker_of_a_web_service_imports_what_it_needs(provider: str, ours: set[str]) -> None:
    package = f"waifu_{provider}"
    found = modules(package)
    names = {name.removeprefix("waifu_worker.") for name in found if name.startswith("waifu_worker.")}
    assert names == _OURS | ours
    installed = {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names)
    assert {name for name in installed if not name.startswith(("_", "waifu"))} <= _HTTP
    assert found & _NEVER == set()
    assert "waifu_llm" not in found


def test_a_worker_without_a_web_service_imports_no_http() -> None:
    found = modules("waifu_echo")
    names = {name.removeprefix("waifu_worker.") for name in found if name.startswith("waifu_worker.")}
    assert names == _OURS - {"addresses", "chat_dialect", "http_client", "http_errors", "tls", "upstream"}
    assert found & (_NEVER | {"_ssl", "aiohttp", "http", "http.client", "email"}) == set()
