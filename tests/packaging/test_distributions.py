"""Wheel, sdist, the wheel made from the sdist and an editable install all hold the same module and workers."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.waiting import WAIT_S
from uv import find_uv_bin

pytestmark = pytest.mark.xdist_group("distributions")
ROOT = Path(__file__).resolve().parents[2]
BUILD_S = 6 * WAIT_S
# Runs in any installation; prints every file of ours that it can see, by the name a user of it would know.
FILES = """
import json, pathlib, waifu_client, waifu_llm, waifu_worker
from waifu_llm.catalog import bundled_roots
found = {}
for package in (waifu_client, waifu_llm, waifu_worker):
    found[package.__name__] = pathlib.Path(package.__file__).parent
for root in bundled_roots():
    found[root.name] = root
def listed(name, root):
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in parts and "_bundle" not in parts:
            yield "/".join((name, *parts))
print(json.dumps(sorted(file for name, root in found.items() if root.is_dir() for file in listed(name, root))))
"""


def run(*argv: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [str(part) for part in argv],
        cwd=cwd,
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=BUILD_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Distributions:
    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


def build(kind: str, source: Path, into: Path) -> Path:
    run(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", into, source, cwd=into)
    return next(into.iterdir())


def clean_copy(into: Path) -> Path:
    """The sources without what builds and tools leave behind; hatchling reads .gitignore but packs the rest."""
    left_behind = (
        ".git",
        ".venv",
        ".*_cache",
        ".hypothesis",
        ".coverage*",
        "__pycache__",
        "build",
        "dist",
        "node_modules",
    )
    return shutil.copytree(ROOT, into / "waifu-llm", ignore=shutil.ignore_patterns(*left_behind))


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    source = clean_copy(tmp_path_factory.mktemp("source"))
    wheel = build("wheel", source, tmp_path_factory.mktemp("wheel"))
    sdist = build("sdist", source, tmp_path_factory.mktemp("sdist"))
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    wheel_of_sdist = build("wheel", next(unpacked.iterdir()), tmp_path_factory.mktemp("wheel-of-sdist"))
    return Distributions(wheel, sdist, wheel_of_sdist)


@dataclass(frozen=True)
class Installation:
    bin: Path
    home: Path

    def command(self, *argv: str) -> str:
        return run(self.bin / "waifu-llm", *argv, cwd=self.home, WAIFU_LLM_HOME=str(self.home / "home"))


@pytest.fixture(scope="module")
def installation(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel in a virtual environment of its own, with nothing but what it asks for."""
    folder = tmp_path_factory.mktemp("installed")
    uv = find_uv_bin()
    run(uv, "venv", "--quiet", "--python", sys.executable, folder / "venv", cwd=folder)
    binaries = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    run(uv, "pip", "install", "--quiet", "--python", binaries / "python", distributions.wheel, cwd=folder)
    return Installation(binaries, folder)


def contents(wheel: Path) -> dict[str, bytes]:
    """Every file and what is in it; RECORD and WHEEL come from the build, not from us."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith(("/RECORD", "/WHEEL"))}


def test_the_wheel_made_from_the_sdist_is_the_wheel(distributions: Distributions) -> None:
    assert contents(distributions.wheel) == contents(distributions.wheel_of_sdist)


def test_the_wheel_holds_the_packages_and_every_worker_with_its_lock(distributions: Distributions) -> None:
    names = contents(distributions.wheel).keys()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "waifu_llm",
        "waifu_worker",
        "waifu_client",
    }
    for manifest in sorted(ROOT.glob("workers/*/pyproject.toml")):
        bundled = f"waifu_llm/_bundle/workers/{manifest.parent.name}"
        assert {f"{bundled}/pyproject.toml", f"{bundled}/requirements.lock"} <= names


def test_the_wheel_holds_every_file_of_the_gateways_their_personalities_too(distributions: Distributions) -> None:
    names = contents(distributions.wheel).keys()
    files = {file.relative_to(ROOT).as_posix() for file in ROOT.glob("gateways/*/waifu_*/**/*") if file.is_file()}
    ours = {f"waifu_llm/_bundle/{file}" for file in files if not file.endswith(".pyc")}
    assert "waifu_llm/_bundle/gateways/lollms/waifu_lollms/personality_set/english/generic/lollms/config.yaml" in ours
    assert ours <= names


def test_an_editable_install_sees_the_files_that_the_wheel_has(installation: Installation) -> None:
    of_wheel = json.loads(run(installation.bin / "python", "-I", "-c", FILES, cwd=installation.home))
    of_checkout = json.loads(run(sys.executable, "-I", "-c", FILES, cwd=installation.home))
    assert of_wheel == of_checkout


def test_the_installed_command_says_its_version(installation: Installation) -> None:
    import waifu_llm

    assert waifu_llm.__version__ in installation.command("version")


def test_the_installed_command_lists_every_worker(installation: Installation) -> None:
    listed = installation.command("list", "--json")
    for manifest in ROOT.glob("workers/*/pyproject.toml"):
        assert f'"{manifest.parent.name}"' in listed


def test_the_installed_module_builds_loads_and_answers(installation: Installation) -> None:
    installation.command("install", "echo")
    answer = installation.command("chat", "echo", "echo", "--prompt", "from the wheel to a worker and back")
    assert "from the wheel to a worker and back" in answer


@pytest.mark.full
def test_pip_installs_a_clean_copy(tmp_path: Path) -> None:
    source = clean_copy(tmp_path)
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    binaries = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    run(binaries / "python", "-m", "pip", "install", "--quiet", source, cwd=tmp_path)
    assert '"openai"' in Installation(binaries, tmp_path).command("list", "--json")


@pytest.mark.full
def test_the_demo_runs_from_a_clean_copy_and_installs_nothing_the_second_time(tmp_path: Path) -> None:
    demo = clean_copy(tmp_path) / "scripts" / "demo.py"
    home = str(tmp_path / "home")
    python = getattr(sys, "_base_executable", sys.executable)
    first = run(python, demo, cwd=tmp_path, WAIFU_LLM_HOME=home)
    again = run(python, demo, cwd=tmp_path, WAIFU_LLM_HOME=home)
    assert "installing waifu-llm" in first and "installing" not in again
    assert "and back." in first and "and back." in again
