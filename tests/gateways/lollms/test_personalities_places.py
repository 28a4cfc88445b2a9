"""Which names may be a place at all, and what a client's text can mean."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waifu_lollms.personalities.places import PlaceError, component, is_hidden, key_parts, refusal


@pytest.mark.parametrize(
    "name", ["lollms", "Émile", "two words", 'it\'s "quoted"', "日本", "a.b", "...", "Re: Zero", "c#", "no\u00a0break"]
)
def test_a_name_with_spaces_quotes_and_any_script_is_a_name(name: str) -> None:
    assert refusal(name) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "it is no name"),
        (".", "it is no name"),
        ("..", "it is no name"),
        ("é" * 128, "its name is too long"),
        ("a/b", "its name holds a separator, a control character or bytes that are not UTF-8"),
        ("a\\b", "its name holds a separator, a control character or bytes that are not UTF-8"),
        ("a\0", "its name holds a separator, a control character or bytes that are not UTF-8"),
        ("a\nb", "its name holds a separator, a control character or bytes that are not UTF-8"),
        ("a\udcff", "its name holds a separator, a control character or bytes that are not UTF-8"),
    ],
)
def test_what_is_no_name_says_why(name: str, why: str) -> None:
    assert refusal(name) == why


@pytest.mark.parametrize(("name", "hidden"), [(".git", True), ("__pycache__", True), ("a", False), ("_a", False)])
def test_folders_of_other_programs_are_hidden(name: str, hidden: bool) -> None:
    assert is_hidden(name) is hidden


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("english/generic/lollms", ("english", "generic", "lollms")),
        ("generic/lollms", ("generic", "lollms")),
        ("generic/lollms/", ("generic", "lollms")),
        ("generic/e\u0301", ("generic", "\u00e9")),
        ("con/aux", ("con", "aux")),
    ],
)
def test_a_path_is_two_or_three_names(path: str, parts: tuple[str, ...]) -> None:
    assert key_parts(path) == parts


@pytest.mark.parametrize(
    "path", ["", "a", "a/b/c/d", "a//b", "../a", "a/..", "./a", "a/b//", "a\\b", "C:\\a\\b", "/a/b"]
)
def test_anything_else_is_refused_with_the_forms_there_are(path: str) -> None:
    with pytest.raises(PlaceError, match="must be language/category/name or category/name"):
        key_parts(path)


@pytest.mark.parametrize("path", ["a\0/b", "a/" * 3000])
def test_what_no_file_system_takes_is_no_path(path: str) -> None:
    with pytest.raises(PlaceError, match="no path"):
        key_parts(path)


@given(st.text())
def test_no_text_raises_anything_else_and_every_part_is_a_name(path: str) -> None:
    try:
        parts = key_parts(path)
    except PlaceError:
        return
    assert len(parts) in (2, 3)
    for part in parts:
        assert refusal(part) is None
        assert component(part) == part == unicodedata.normalize("NFC", part)
