"""Folders of personalities on a real disk: listed in every layout, found by name, remembered, and seen to change."""

import os
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import pytest
from support.waiting import WAIT_S
from waifu_lollms.personalities import cache
from waifu_lollms.personalities.library import Library, PersonalityError
from waifu_lollms.personalities.loader import read_personality
from waifu_lollms.personalities.model import Personality, Survey

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
GIF = b"GIF89a" + bytes(100)
LATER_NS = 10**18
Form: TypeAlias = Literal["NFC", "NFD"]


def put(folder: Path, text: str = "", logo: str | None = None, head: bytes = PNG) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(text, "utf-8")
    if logo is not None:
        (folder / "assets").mkdir(exist_ok=True)
        (folder / "assets" / logo).write_bytes(head)
    return folder


def keys(survey: Survey) -> list[str]:
    return [each.key for named in survey.languages.values() for there in named.values() for each in there]


def messages(survey: Survey) -> dict[str, str]:
    return {error.path: error.message for error in survey.errors}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "personalities"
    root.mkdir()
    return root


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all files had been written long ago."""
    monkeypatch.setattr(cache, "now_ns", lambda: 2 * LATER_NS)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders whose files were really read."""
    found: list[str] = []

    def counting(data: bytes, *, language: str | None, category: str, folder: str) -> Personality:
        found.append(folder)
        return read_personality(data, language=language, category=category, folder=folder)

    monkeypatch.setattr("waifu_lollms.personalities.library.read_personality", counting)
    return found


def test_both_layouts_are_listed_sorted_by_language_category_and_name(root: Path) -> None:
    put(root / "french" / "art" / "b")
    put(root / "french" / "art" / "a")
    put(root / "english" / "zoo" / "cat")
    put(root / "english" / "art" / "x y")
    put(root / "coding" / "duck", "language: French\n")
    put(root / "coding" / "goose")
    survey = Library([root], None).survey()
    assert keys(survey) == [
        "english/art/x y",
        "english/coding/goose",
        "english/zoo/cat",
        "french/art/a",
        "french/art/b",
        "french/coding/duck",
    ]
    assert list(survey.languages) == ["english", "french"]
    assert list(survey.languages["english"]) == ["art", "coding", "zoo"]
    assert survey.errors == []


def test_files_hidden_folders_and_empty_ones_are_no_personalities(root: Path) -> None:
    put(root / ".git" / "a" / "b")
    put(root / "english" / "__pycache__" / "b")
    (root / "README.md").write_text("hello")
    (root / "english" / "empty").mkdir()
    survey = Library([root], None).survey()
    assert survey == Survey({}, [])


def test_every_broken_folder_is_one_entry_of_the_errors(root: Path) -> None:
    put(root / "english" / "generic" / "good")
    put(root / "english" / "generic" / "list", "- a\n")
    put(root / "english" / "generic" / "wrong", "name: x\nmodel_top_k: many\n")
    put(root / "english" / "generic" / "large", "#" * (256 * 1024 + 1))
    (root / "english" / "generic" / "no file").mkdir()
    (root / "english" / "generic" / "folder" / "config.yaml").mkdir(parents=True)
    (root / "art" / "lost" / "assets").mkdir(parents=True)
    put(root / "flat")
    survey = Library([root, root.parent / "nowhere"], None).survey()
    assert keys(survey) == ["english/generic/good"]
    found = messages(survey)
    assert found.pop("nowhere").startswith("The folder cannot be read (")
    assert found == {
        "art/lost": "config.yaml is missing",
        "english/generic/folder": "config.yaml cannot be read: it is no regular file",
        "english/generic/large": "config.yaml cannot be read: it is larger than 256 KiB",
        "english/generic/list": "config.yaml, line 1: fields are expected, like `name: value`",
        "english/generic/no file": "config.yaml is missing",
        "english/generic/wrong": "config.yaml, line 2: model_top_k must be a whole number, not 'many'",
        "flat": "A personality must lie in language/category/name or category/name",
    }
    assert len(survey.errors) == 8


def test_a_folder_whose_name_no_message_can_carry_is_left_out_and_said(root: Path) -> None:
    put(root / "english" / "generic" / "good")
    put(root / "english" / "generic" / "two\nlines")
    (root / "english" / os.fsdecode(b"caf\xe9")).mkdir()
    survey = Library([root], None).survey()
    assert keys(survey) == ["english/generic/good"]
    reason = "The folder is left out: its name holds a separator, a control character or bytes that are not UTF-8"
    assert messages(survey) == {"english/generic/two\nlines": reason, "english/caf?": reason}


def test_the_earlier_root_wins_where_two_have_the_same_key(tmp_path: Path) -> None:
    put(tmp_path / "one" / "english" / "a" / "b", "name: first\n")
    put(tmp_path / "two" / "english" / "a" / "b", "name: second\n")
    put(tmp_path / "two" / "a" / "c", "name: third\n")
    found = Library([tmp_path / "one", tmp_path / "two"], None)
    assert [each.name for each in found.survey().languages["english"]["a"]] == ["first", "third"]
    assert found.find(str(tmp_path / "two" / "english" / "a" / "b")).name == "first"


@pytest.mark.parametrize(
    "path",
    ["english/generic/lollms", "generic/lollms", "english/generic/lollms/", "{root}/english/generic/lollms"],
)
def test_a_personality_is_found_in_each_of_the_three_forms(root: Path, path: str) -> None:
    put(root / "english" / "generic" / "lollms", "name: it\n")
    put(root / "french" / "generic" / "lollms", "name: other\n")
    assert Library([root], None).find(path.format(root=root)).name == "it"


def test_without_its_language_a_personality_is_found_in_english_first_and_then_in_any(root: Path) -> None:
    put(root / "arabic" / "generic" / "a", "name: arabic\n")
    put(root / "english" / "generic" / "a", "name: english\n")
    put(root / "french" / "generic" / "b", "name: french\n")
    found = Library([root], None)
    assert (found.find("generic/a").name, found.find("generic/b").name) == ("english", "french")
    put(root / "generic" / "a", "name: without\nlanguage: latin\n")
    assert found.survey().errors == []
    assert found.find("generic/a").name == "without"


def test_an_absolute_path_may_lead_through_links_that_stay_inside(root: Path, tmp_path: Path) -> None:
    put(root / "english" / "a" / "b", "name: it\n")
    (root / "english" / "link").symlink_to(root / "english" / "a")
    (tmp_path / "way in").symlink_to(root)
    found = Library([tmp_path / "way in"], None)
    assert keys(found.survey()) == ["english/a/b", "english/link/b"]
    for path in (root / "english" / "a" / "b", tmp_path / "way in" / "english" / "a" / ".." / "link" / "b"):
        assert found.find(str(path)).name == "it"


@pytest.mark.parametrize(
    "name", ["L'été “doux”", "日本語", 'a "quoted" name', "two  words", "c#_über", "Zoë & Co; $HOME %s"]
)
@pytest.mark.parametrize(("on_disk", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_with_unicode_spaces_and_quotes_are_found_in_either_form(
    root: Path, name: str, on_disk: Form, asked: Form
) -> None:
    put(root / "english" / "a" / unicodedata.normalize(on_disk, name), logo="logo.png")
    found = Library([root], None)
    asked_for = unicodedata.normalize(asked, name)
    for path in (f"english/a/{asked_for}", f"a/{asked_for}", f"{root}/english/a/{asked_for}"):
        personality = found.find(path)
        assert personality.key == unicodedata.normalize("NFC", f"english/a/{name}")
        assert found.logo(personality.key) is not None


def test_two_folders_that_differ_in_the_form_of_their_letters_are_one_personality_and_one_error(root: Path) -> None:
    put(root / "english" / "a" / "e\u0301")
    put(root / "english" / "a" / "\u00e9")
    survey = Library([root], None).survey()
    assert keys(survey) == ["english/a/\u00e9"]
    # Some file systems keep only one of the two.
    assert len(survey.errors) <= 1


def test_who_asks_for_a_broken_personality_is_told_what_is_wrong_with_it(root: Path) -> None:
    put(root / "english" / "a" / "b", "name: []\n")
    with pytest.raises(PersonalityError) as caught:
        Library([root], None).find("english/a/b")
    assert str(caught.value) == "This personality is broken. config.yaml, line 1: name must be a text, not a list"


def test_what_is_added_changed_or_removed_is_seen_at_the_next_look(root: Path, settled: None) -> None:
    folder = put(root / "english" / "a" / "b", "name: one\n")
    found = Library([root], None)
    assert found.find("english/a/b").name == "one"
    (folder / "config.yaml").write_text("name: two\n")
    assert found.find("english/a/b").name == "two"
    put(root / "english" / "a" / "c", "name: new\n")
    assert found.find("english/a/c").name == "new"
    (folder / "scripts").mkdir()
    put(folder, "name: two\n", logo="logo.png", head=b"not yet")
    first = found.survey().languages["english"]["a"][0]
    assert (first.has_scripts, first.has_logo) == (True, False)
    put(folder, "name: two\n", logo="logo.png", head=PNG)
    assert found.survey().languages["english"]["a"][0].has_logo
    (folder / "config.yaml").unlink()
    assert keys(found.survey()) == ["english/a/c"]
    with pytest.raises(PersonalityError, match=r"This personality is broken. config.yaml is missing"):
        found.find("english/a/b")


def test_what_did_not_change_is_not_read_again_nor_after_a_restart(
    root: Path, tmp_path: Path, reads: list[str], settled: None
) -> None:
    put(root / "english" / "a" / "good", "name: é\nprocessor_cfg: {a: [1, 2.5, ~]}\n", logo="logo.png")
    put(root / "english" / "a" / "bad", "name: []\n")
    (root / "english" / "a" / "link").symlink_to(root / "english" / "a" / "good")
    kept = tmp_path / "cache" / "personalities.json"
    first = Library([root], kept)
    survey = first.survey()
    assert sorted(reads) == ["bad", "good", "link"]
    assert first.survey() == survey
    assert Library([root], kept).survey() == survey
    assert len(reads) == 3
    assert [file.name for file in kept.parent.iterdir()] == [kept.name]
    (root / "english" / "a" / "good" / "config.yaml").write_text("name: new\n")
    assert Library([root], kept).survey().languages["english"]["a"][0].name == "new"
    assert sorted(reads[3:]) == ["good", "link"]


def test_a_change_in_the_same_instant_of_the_clock_is_seen(
    root: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(root / "english" / "a" / "b", "name: one\n") / "config.yaml"
    monkeypatch.setattr(cache, "now_ns", lambda: file.stat().st_mtime_ns + 1)
    found = Library([root], None)
    found.survey()
    found.survey()
    assert reads == ["b", "b"]


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"[" * 100_000, b"{}", b'{"version": 1, "entries": {"x": 1}}', b'{"version": 1, "ent']
)
def test_a_broken_cache_is_as_good_as_none(root: Path, tmp_path: Path, content: bytes, settled: None) -> None:
    put(root / "english" / "a" / "b")
    kept = tmp_path / "cache"
    kept.write_bytes(content)
    assert keys(Library([root], kept).survey()) == ["english/a/b"]
    assert cache.load(kept)


def test_a_cache_of_another_version_is_as_good_as_none(
    root: Path, tmp_path: Path, reads: list[str], settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root / "english" / "a" / "b")
    Library([root], tmp_path / "cache").survey()
    monkeypatch.setattr(cache, "_VERSION", 10_000)
    Library([root], tmp_path / "cache").survey()
    assert reads == ["b", "b"]


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(root: Path, tmp_path: Path) -> None:
    put(root / "english" / "a" / "b")
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "in the way").mkdir(parents=True)
    for kept in (tmp_path / "file" / "cache", tmp_path / "folder"):
        assert keys(Library([root], kept).survey()) == ["english/a/b"]
    assert [entry.name for entry in (tmp_path / "folder").parent.glob(".folder-*")] == []


def test_several_threads_at_once_see_the_same(root: Path, tmp_path: Path) -> None:
    for number in range(20):
        put(root / "english" / "a" / str(number))
    found = Library([root], tmp_path / "cache")
    together = threading.Barrier(8, timeout=WAIT_S)
    surveys: list[Survey] = []

    def look(number: int) -> None:
        together.wait()
        surveys.append(found.survey())
        assert found.find(f"english/a/{number}").key == f"english/a/{number}"
        found.logo(f"english/a/{number}")

    threads = [threading.Thread(target=look, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(surveys) == 8
    assert all(survey == surveys[0] for survey in surveys)


def test_the_first_logo_in_the_published_order_that_is_an_image_is_it(root: Path) -> None:
    folder = put(root / "english" / "a" / "b")
    found = Library([root], None)
    assert found.logo("english/a/b") is None
    put(folder, logo="logo.bmp", head=b"BM\x10\0\0\0\0\0\0\0")
    put(folder, logo="logo.png")
    put(folder, logo="logo.gif", head=b"<html>not a gif")
    put(folder, logo="logo.svg", head=b"<svg/>")
    logo = found.logo("english/a/b")
    assert logo is not None
    assert (logo.file.name, logo.content_type) == ("logo.png", "image/png")
    put(folder, logo="logo.gif", head=GIF)
    logo = found.logo("english/a/b")
    assert logo is not None
    assert (logo.file.name, logo.content_type) == ("logo.gif", "image/gif")
    assert found.logo("english/a/other") is None
    assert found.logo("../../../etc/passwd") is None


@pytest.mark.parametrize("name", ["logo.svg", "LOGO.PNG", "logo.png.exe", "icon.png"])
def test_other_files_are_no_logos(root: Path, name: str) -> None:
    put(root / "english" / "a" / "b", logo=name)
    found = Library([root], None)
    if not (root / "english" / "a" / "b" / "assets" / "logo.png").exists():
        assert found.logo("english/a/b") is None
        assert not found.find("english/a/b").has_logo


def test_a_logo_over_the_limit_is_none(root: Path) -> None:
    file = put(root / "english" / "a" / "b", logo="logo.png") / "assets" / "logo.png"
    os.truncate(file, 8 * 1024 * 1024)
    found = Library([root], None)
    assert found.logo("english/a/b") is not None
    os.truncate(file, 8 * 1024 * 1024 + 1)
    assert found.logo("english/a/b") is None


def test_a_folder_that_may_not_be_read_is_an_error_of_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "english" / "a" / "b")
    put(root / "english" / "locked" / "c")
    real: Callable[[Path], object] = os.scandir

    def refusing(folder: Path) -> object:
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    survey = Library([root], None).survey()
    assert keys(survey) == ["english/a/b"]
    assert messages(survey) == {"english/locked": "The folder cannot be read (Permission denied)"}


def test_a_file_that_goes_while_it_is_looked_at_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "english" / "a" / "b")
    found = Library([root], None)
    monkeypatch.setattr(
        found._confinement, "read", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError(2, "No such file"))
    )
    assert messages(found.survey()) == {"english/a/b": "config.yaml cannot be read: No such file"}
