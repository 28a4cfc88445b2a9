"""The fixture that the whole suite leans on: environments are real, built once, and measured."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.environments import COVERAGE, SharedEnvironments

from waifu_llm.environment.uv import python_of
from waifu_llm.paths import Home


def test_an_installed_environment_runs_from_the_tests_own_home(home: Path, installed: Callable[..., None]) -> None:
    installed("echo")
    (folder,) = Home(home).envs.iterdir()
    python = python_of(folder, sys.platform)
    argv = [str(python), "-I", "-c", "import msgspec; print(msgspec.__file__)"]
    found = subprocess.run(argv, capture_output=True, encoding="utf-8", check=True)
    assert Path(found.stdout.strip()).is_relative_to(folder)


def test_an_environment_is_built_once(shared_environments: SharedEnvironments) -> None:
    folder = shared_environments.build("echo")
    before = folder.stat().st_mtime_ns
    assert shared_environments.build("echo") == folder
    assert folder.stat().st_mtime_ns == before


def test_a_worker_measures_its_coverage_without_any_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "coverage.ini"
    data = tmp_path / "data"
    config.write_text(f"[run]\nparallel = true\ndata_file = {data}\ninclude = {tmp_path}/*\n", "utf-8")
    monkeypatch.setenv(COVERAGE, str(config))
    folder = SharedEnvironments(tmp_path / "environments").build("echo")
    script = tmp_path / "worker.py"
    script.write_text("import os\nassert 'COVERAGE_PROCESS_START' not in os.environ\n", "utf-8")
    subprocess.run([python_of(folder, sys.platform), "-I", script], env={}, check=True)
    assert list(tmp_path.glob("data.*"))
