"""The tests' builds of torch: from a folder of wheels where one is named, else the build without a GPU."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Choose = Callable[[Mapping[str, str], str | None], dict[str, str]]


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Choose:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    found: Choose = importlib.import_module("wheels").torch_choice
    return found


@pytest.mark.parametrize(
    ("environ", "pip_folder", "choice"),
    [
        ({"UV_FIND_LINKS": "/u", "PIP_FIND_LINKS": "/e"}, "/p", {}),
        ({"PIP_FIND_LINKS": "/e"}, "/p", {"UV_FIND_LINKS": "/e"}),
        ({"UV_DEFAULT_INDEX": "https://mirror"}, "/p /q", {"UV_FIND_LINKS": "/p,/q"}),
        ({"UV_DEFAULT_INDEX": "https://mirror"}, None, {}),
        ({"UV_TORCH_BACKEND": "cu130"}, None, {}),
        ({}, None, {"UV_TORCH_BACKEND": "cpu"}),
    ],
)
def test_the_folder_that_somebody_named_comes_first(
    choose: Choose, environ: dict[str, str], pip_folder: str | None, choice: dict[str, str]
) -> None:
    assert choose(environ, pip_folder) == choice


def test_pips_own_configuration_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, choose: Choose) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("APPDATA", str(tmp_path))
    for folder in ("pip", "Library/Application Support/pip"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("pip.conf", "pip.ini"):
            (tmp_path / folder / name).write_text("[global]\nfind-links = /some/folder\n")
    assert importlib.import_module("wheels").pip_folder() == "/some/folder"
