"""What the gateway's options must be."""

import os
from pathlib import Path
from typing import Any

import pytest
from waifu_lollms.settings import GatewaySettings, read_settings

from waifu_worker.gateway import CannotServe
from waifu_worker.wire import Start


def start(**settings: Any) -> Start:
    return Start(url="ws://127.0.0.1:1", token="of-the-module", settings=settings, data_dir="/", log_level="info")


def token_file(folder: Path, content: bytes, mode: int = 0o600) -> str:
    file = folder / "token"
    file.write_bytes(content)
    file.chmod(mode)
    return str(file)


def test_what_is_not_set_has_its_default() -> None:
    assert read_settings(start(token_file=None)) == GatewaySettings()


def test_all_options_arrive() -> None:
    given: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "allowed_origins": ["https://example.org"],
        "allowed_hosts": ["llm.example.org"],
        "personality_roots": ["/personalities"],
        "queue_length": 0,
        "connections": 1,
        "events_per_s": 1,
    }
    expected: dict[str, Any] = {name: tuple(it) if isinstance(it, list) else it for name, it in given.items()}
    assert read_settings(start(**given)) == GatewaySettings(**expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"port": -1}, "gateway.lollms.port is -1, but must be between 0 and 65535"),
        ({"port": 65536}, "gateway.lollms.port"),
        ({"queue_length": -1}, "gateway.lollms.queue_length"),
        ({"connections": 0}, "gateway.lollms.connections is 0, but must be 1 or more"),
        ({"events_per_s": 0}, "gateway.lollms.events_per_s"),
        ({"port": "many"}, "gateway.lollms: Expected `int`"),
        ({"allowed_origins": ["example.org"]}, "gateway.lollms.allowed_origins"),
        ({"allowed_origins": ["null"]}, "gateway.lollms.allowed_origins"),
        ({"allowed_hosts": ["http://example.org"]}, "gateway.lollms.allowed_hosts"),
    ],
)
def test_a_value_that_makes_no_sense_is_told_with_its_name(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(CannotServe) as refused:
        read_settings(start(**settings))
    assert words in str(refused.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "localhost.", "127.1"])
def test_off_loopback_nothing_starts_without_a_token(host: str) -> None:
    with pytest.raises(CannotServe, match=r"a token is needed: .* gateway\.lollms\.token_file"):
        read_settings(start(host=host))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.3.2.1", "::1"])
def test_on_loopback_no_token_is_needed(host: str) -> None:
    assert read_settings(start(host=host)).token is None


def test_a_token_comes_from_its_file_and_stands_in_no_repr(tmp_path: Path) -> None:
    settings = read_settings(start(host="0.0.0.0", token_file=token_file(tmp_path, b"  a-secret-token\n")))
    assert settings.token == "a-secret-token"
    assert "a-secret-token" not in repr(settings)
    assert "a-secret-token" not in repr(settings.doors())


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"caf\xc3\xa9", b"\xff\xfe", b"a\x00b", b"x" * 4097])
def test_a_token_that_cannot_be_sent_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CannotServe, match="holds no usable token"):
        read_settings(start(token_file=token_file(tmp_path, content)))


def test_a_token_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotServe, match="cannot be read: No such file"):
        read_settings(start(token_file=str(tmp_path / "none")))


def test_a_token_file_that_is_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotServe, match="cannot be read"):
        read_settings(start(token_file=str(tmp_path)))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_a_token_file_that_others_reach_is_refused(tmp_path: Path, mode: int) -> None:
    file = token_file(tmp_path, b"a-secret-token", mode)
    if os.name == "nt":
        assert read_settings(start(token_file=file)).token
        return
    with pytest.raises(CannotServe, match=f"run: chmod 600 {file}") as refused:
        read_settings(start(token_file=file))
    assert "a-secret-token" not in str(refused.value)
