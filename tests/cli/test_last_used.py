"""Which provider was loaded last, across restarts."""

import sys
from pathlib import Path

import pytest

from waifu_llm.last_used import LastUsed
from waifu_llm.paths import Home
from waifu_llm.private_files import PrivateFileError


def test_what_was_written_last_is_read(home: Path) -> None:
    last = LastUsed(Home(home))
    assert last.read() is None
    last.write("echo")
    last.write("openai")
    assert LastUsed(Home(home)).read() == "openai"


@pytest.mark.parametrize(("content", "name"), [(b"", None), (b" \n", None), (b"ol\xfflama\n", "ol\ufffdlama")])
def test_a_damaged_file_is_no_error(home: Path, content: bytes, name: str | None) -> None:
    home.mkdir()
    (home / "last-provider").write_bytes(content)
    assert LastUsed(Home(home)).read() == name


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")
def test_a_link_is_neither_read_nor_written(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    (home / "last-provider").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PrivateFileError):
        LastUsed(Home(home)).read()
    with pytest.raises(PrivateFileError):
        LastUsed(Home(home)).write("echo")
    assert not (tmp_path / "elsewhere").exists()
