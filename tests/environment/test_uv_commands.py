"""The closed environment of uv, and its command lines."""

import sys
from pathlib import Path

import pytest

from waifu_llm.config import UvSettings
from waifu_llm.environment import uv
from waifu_llm.errors import InstallFailed

USER = {
    "PATH": "/bin",
    "HOME": "/home/u",
    "HTTPS_PROXY": "http://proxy",
    "no_proxy": "localhost",
    "SSL_CERT_FILE": "/ca.pem",
    "UV_DEFAULT_INDEX": "https://own/simple",
    "UV_INDEX": "https://more/simple",
    "UV_INDEX_OWN_PASSWORD": "p",
    "UV_FIND_LINKS": "/wheels",
    "UV_CACHE_DIR": "/cache",
}
NOT_FOR_UV = {
    "OPENAI_API_KEY": "k",
    "WAIFU_LLM_TOKEN": "t",
    "PYTHONPATH": "/p",
    "PYTHONDONTWRITEBYTECODE": "1",
    "VIRTUAL_ENV": "/v",
    "UV_EXTRA_INDEX_URL": "https://evil",
    "UV_INDEX_STRATEGY": "unsafe-best-match",
    "UV_CONFIG_FILE": "/c",
    "UV_PYTHON_DOWNLOADS": "automatic",
    "UV_PROJECT_ENVIRONMENT": "/e",
    "LD_PRELOAD": "/x.so",
}


def test_uv_gets_the_users_choice_of_index_cache_and_proxy_and_nothing_else() -> None:
    env = uv.uv_environment({**USER, **NOT_FOR_UV}, UvSettings())
    own = {"UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1", "LANG": "C.UTF-8"}
    assert env == {**USER, **own}


def test_a_configured_index_replaces_those_of_the_variables() -> None:
    env = uv.uv_environment(USER, UvSettings(index="https://user:pw@configured/simple", find_links="/a folder"))
    assert env["UV_DEFAULT_INDEX"] == "https://user:pw@configured/simple"
    assert env["UV_FIND_LINKS"] == "/a folder"
    assert "UV_INDEX" not in env
    assert env["UV_INDEX_OWN_PASSWORD"] == "p"


def test_a_language_that_is_set_stays() -> None:
    assert uv.basic_environment({"LANG": "de_DE.UTF-8", "SECRET": "s"}) == {"LANG": "de_DE.UTF-8"}


def test_the_sync_checks_hashes_and_takes_wheels_from_one_index_only() -> None:
    command = uv.sync_command("uv", Path("/e/bin/python"), Path("/e/requirements.lock"), offline=False)
    assert "--require-hashes" in command
    assert command[command.index("--only-binary") + 1] == ":all:"
    assert command[command.index("--index-strategy") + 1] == "first-index"
    assert "--offline" not in command
    assert "--offline" in uv.sync_command("uv", Path("p"), Path("l"), offline=True)
    assert command[-1] == str(Path("/e/requirements.lock"))


def test_an_environment_is_relocatable_and_replaces_what_is_there() -> None:
    command = uv.venv_command("uv", Path("/e"), "/usr/bin/python3")
    assert {"--relocatable", "--clear"} <= set(command)
    assert command[command.index("--python") + 1] == "/usr/bin/python3"


@pytest.mark.parametrize("name", ["UV_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_TORCH_BACKEND"])
def test_torchs_build_is_picked_only_where_the_user_has_not(name: str) -> None:
    pins = ("torch==2.13.0",)
    offline, online = uv.unhashed_commands("uv", Path("p"), pins, Path("l"), {name: "x"})
    assert "--torch-backend" not in (*offline, *online)
    assert set(offline) - set(online) == {"--offline"}
    (free,) = uv.unhashed_commands("uv", Path("p"), pins, Path("l"), {})
    assert free[free.index("--torch-backend") + 1] == "auto" and "--offline" not in free
    assert free[-1] == "torch==2.13.0" and "--constraints" in free


@pytest.mark.parametrize("output", ["uv 0.11.15\n", "uv 0.13.9 (x86_64-unknown-linux-gnu)\n", "uv 1.0.0 (abc 2027)\n"])
def test_a_uv_that_is_new_enough_is_taken(output: str) -> None:
    assert uv.checked_version(output) == output.split()[1]


@pytest.mark.parametrize(("output", "words"), [("uv 0.11.14\n", "too old"), ("uv 0.9.30\n", "too old"), ("x", "again")])
def test_a_uv_that_is_too_old_or_none_is_refused(output: str, words: str) -> None:
    with pytest.raises(InstallFailed, match=words):
        uv.checked_version(output)


def test_uv_is_the_one_that_came_as_our_dependency() -> None:
    assert Path(uv.find_uv()).is_file()


def test_without_uv_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    with pytest.raises(InstallFailed, match="pip install"):
        uv.find_uv()


def test_an_environments_python_lies_where_the_platform_has_it() -> None:
    assert uv.python_of(Path("e"), "linux") == Path("e/bin/python")
    assert uv.python_of(Path("e"), "win32") == Path("e/Scripts/python.exe")
