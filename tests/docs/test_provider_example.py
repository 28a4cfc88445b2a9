"""The provider of docs/add-a-provider.md works as it stands there, and so do its tests."""

import inspect
import re
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from waifu_llm.catalog import KeyNeed, read_manifest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "add-a-provider.md").read_text("utf-8")
PACKAGE, TESTS = "waifu_backwards", "tests_of_backwards"


def written(into: Path) -> Path:
    for name, text in re.findall(r"^```(?:toml|python) (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        file = into / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    return into


def load_as(name: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return written(tmp_path)


def test_its_manifest_is_one(project: Path) -> None:
    manifest = read_manifest(project / "workers" / "backwards")
    assert manifest.declared.key.need is KeyNeed.REQUIRED
    assert manifest.package_folder.is_dir()
    assert manifest.declared.options["shout"].default is False


async def test_its_tests_pass(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_as(PACKAGE, project / "workers" / "backwards" / PACKAGE / "__init__.py", monkeypatch)
    tests = load_as(TESTS, project / "tests" / "workers" / "test_backwards.py", monkeypatch)
    found: list[Callable[[], object]] = [test for name, test in vars(tests).items() if name.startswith("test_")]
    assert len(found) == 2
    for test in found:
        running = test()
        assert inspect.isawaitable(running)
        await running
