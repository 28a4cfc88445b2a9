"""Files that only their owner may read."""

import os
import stat
import sys
from pathlib import Path

import pytest

from waifu_llm.private_files import PrivateFileError, make_private_folder, mode_problem, read_private, write_private

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")


def test_what_was_written_is_read_and_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "er" / "file"
    write_private(file, b"one")
    write_private(file, b"two")
    assert read_private(file) == b"two"
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_a_file_that_is_not_there_reads_as_none(tmp_path: Path) -> None:
    assert read_private(tmp_path / "nothing") is None


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    before = folder.stat().st_mode
    make_private_folder(folder)
    assert folder.stat().st_mode == before


@posix
def test_a_new_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_what_is_no_plain_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(PrivateFileError, match="not a plain file"):
        read_private(tmp_path / "folder")
    with pytest.raises(PrivateFileError, match="not a plain file"):
        write_private(tmp_path / "folder", b"")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PrivateFileError, match="cannot be made"):
        make_private_folder(tmp_path / "file" / "below")


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    write_private(file, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PrivateFileError, match=r"file cannot be written: No space left on device"):
        write_private(file, b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_private(file, b"old")

    def forbidden(path: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(PrivateFileError, match=r"file cannot be read: Permission denied"):
        read_private(file)


@posix
def test_modes_are_a_problem_where_others_may_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    file.chmod(0o640)
    assert mode_problem(file) == f"{file} can be read by other users; run: chmod 600 {file}"
    file.chmod(0o600)
    assert mode_problem(file) is None
    assert mode_problem(tmp_path / "nothing") is None
