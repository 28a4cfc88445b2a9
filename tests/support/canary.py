"""A key that exists in one test only: wherever it turns up beside where it belongs, it has leaked.

While a `Watch` is on (an autouse fixture of all tests) every module that `running_module` and `served` start has
the key as its own for every provider, in its keys.json; when that module ends, its processes, its home and what it
wrote are searched.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from waifu_llm.errors import ModuleError
from waifu_llm.keys import KeyStore
from waifu_llm.paths import Home

PROVIDERS: Final = ("deepseek", "fake", "groq", "hf_local", "novelai", "ollama", "openai", "openai_compatible")
_LARGEST: Final = 16 * 1024 * 1024

_on: "Watch | None" = None


class Watch:
    """Looks for one key; `found` says where it was."""

    def __init__(self, key: str, plants: bool = True) -> None:
        self.key = key
        self.plants = plants
        self.found: list[str] = []
        raw = key.encode()
        # Whole, its end, and in base64, of which the last characters depend on what follows.
        self._forms = (raw, raw[-8:], base64.b64encode(raw)[:-4])

    def look_at(self, where: str, data: bytes | str) -> None:
        """Note it where it is in `data`."""
        data = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        if any(form in data for form in self._forms):
            self.found.append(where)

    def look_at_processes(self, pid: int | None = None) -> None:
        """The arguments of a process (default: this one) and of what it started, and their environments."""
        top = psutil.Process(pid)
        for process in (top, *top.children(recursive=True)):
            try:
                name = f"{process.pid} {process.name()}"
                # This one runs the tests, and what it was started with is not the module's.
                if pid is not None or process != top:
                    self.look_at(f"the arguments of {name}", "\0".join(process.cmdline()))
                    self.look_at(f"the environment of {name}", "\0".join(process.environ().values()))
            except psutil.Error:
                continue  # it has ended meanwhile

    def look_at_files(self, home: Path) -> None:
        """Everything below a home but keys.json and other people's packages."""
        for path in home.rglob("*"):
            if path == home / "keys.json" or "site-packages" in path.parts or not path.is_file():
                continue
            self.look_at(f"the name of {path}", path.name)
            if path.stat().st_size <= _LARGEST:
                self.look_at(str(path), path.read_bytes())


@contextmanager
def watching(key: str, *, plants: bool = True) -> Iterator[Watch]:
    """For this time the modules of the test have this key, if it `plants`, and are searched."""
    global _on
    _on = Watch(key, plants)
    try:
        yield _on
    finally:
        _on = None


def plant(home: Path) -> None:
    """Give a module that is about to start the key, unless its home has keys already."""
    if _on is None or not _on.plants or (home / "keys.json").exists():
        return
    store = KeyStore(Home(home), keyring=lambda: None)
    with suppress(ModuleError):  # a home that is not to be written is what the test is about
        for provider in PROVIDERS:
            store.set(provider, _on.key)


def look_at_processes(pid: int | None = None) -> None:
    """While the module runs."""
    if _on is not None:
        _on.look_at_processes(pid)


def look_at_rest(home: Path, **written: str) -> None:
    """Once it has ended: its home, and what it wrote on its streams."""
    if _on is not None:
        _on.look_at_files(home)
        for where, text in written.items():
            _on.look_at(where, text)
