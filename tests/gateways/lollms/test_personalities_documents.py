"""YAML becomes texts, lists and tables; bombs and nonsense become one sentence, at once."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waifu_lollms.personalities.documents import (
    DEEPEST,
    MOST_NODES,
    DocumentError,
    Listing,
    Node,
    Scalar,
    Table,
    read_document,
)


def shape(node: Node) -> object:
    """The tree without lines and quotes."""
    match node:
        case Scalar(text=text):
            return text
        case Listing(items=items):
            return [shape(item) for item in items]
        case Table(entries=entries):
            return {name: shape(value) for name, value in entries.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# only a comment\n", {}),
        ("---\n", {}),
        ("---\n...\n", {}),
        ("~", {}),
        ("a: 1\nb: [x, 'y']\nc: {d: e}\n", {"a": "1", "b": ["x", "y"], "c": {"d": "e"}}),
        ("version: 2.10\nname: No\n", {"version": "2.10", "name": "No"}),
        ("a: 2024-13-45\nb: 0o9\nc: 1:70\n", {"a": "2024-13-45", "b": "0o9", "c": "1:70"}),
        ("a: |\n  one\n  two\n", {"a": "one\ntwo\n"}),
        ("%YAML 1.1\n---\na: b\n...\n", {"a": "b"}),
        ("%YAML 1.2\n---\na: b\n", {"a": "b"}),
        ("a: first\na: last\n", {"a": "last"}),
        ("? [a, b]\n: c\nd: e\n", {"d": "e"}),
        ("a: &it [x]\nb: *it\n", {"a": ["x"], "b": ["x"]}),
        ("a: &it x\nb: &it y\nc: *it\n", {"a": "x", "b": "y", "c": "y"}),
        ("a: !!str 5\nb: ! x\n", {"a": "5", "b": "x"}),
        ('a: "\\ud83d\\ude00"\n', {"a": "😀"}),
        ("a: 'it''s'\r\nb: é\r\n", {"a": "it's", "b": "é"}),
    ],
)
def test_a_document_is_a_table_of_what_is_written(text: str, expected: object) -> None:
    assert shape(read_document(text)) == expected


def test_a_value_knows_its_line_and_whether_it_may_be_more_than_a_text() -> None:
    entries = read_document("a: yes\nb: 'yes'\nc: !!str yes\n").entries
    assert entries == {"a": Scalar("yes", True, 0), "b": Scalar("yes", False, 1), "c": Scalar("yes", False, 2)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "line 1: fields are expected, like `name: value`"),
        ("\njust a text\n", "line 2: fields are expected, like `name: value`"),
        ("'null'", "line 1: fields are expected, like `name: value`"),
        ("a: b\n---\nc: d\n", "line 2: a second document begins; one is expected"),
        ("a: [", "line 1: expected the node content, but found '<stream end>'"),
        ("a: b\n\tc: d\n", "line 2: found character '\\t' that cannot start any token"),
        ("a: *nothing\n", "line 1: *nothing stands for nothing that comes before it"),
        ("a: &me [*me]\n", "line 1: *me stands for nothing that comes before it"),
        ("a: !!python/object/apply:os.system [id]\n", "line 1: the tag 'python/object/apply:os.system' is not allowed"),
        ("a: !mine b\n", "line 1: the tag '!mine' is not allowed"),
        ('a: "\\ud83d"\n', "line 1: an escape spells half a character"),
    ],
)
def test_what_is_no_document_says_where_and_why(text: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_document(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["a: '\0'", 'a: "\\UFFFFFFFF"', "%YAML 1.x\n---\na: b"])
def test_what_the_parser_cannot_even_name_is_an_error_of_ours_too(text: str) -> None:
    with pytest.raises(DocumentError):
        read_document(text)


def laughs(kind: str) -> str:
    """Nine levels of nine aliases: 387 million values, from a few hundred bytes."""
    names = "abcdefghi"
    lists = {"list": "[{}]", "mapping": "{{" + "{}" + "}}"}
    text = "a: &a x\n"
    for below, name in itertools.pairwise(names):
        inside = ", ".join(f"k{number}: *{below}" if kind == "mapping" else f"*{below}" for number in range(9))
        text += f"{name}: &{name} {lists[kind].format(inside)}\n"
    return text


@pytest.mark.parametrize(
    "bomb",
    [
        laughs("list"),
        laughs("mapping"),
        "a: &a [" + "x, " * (MOST_NODES // 2) + "]\nb: [*a, *a]\n",
        "[" + "x, " * MOST_NODES + "]",
        "- x\n" * MOST_NODES,
        "x: y\n" * MOST_NODES,
    ],
    ids=["lists", "mappings", "one large list, three times", "flow list", "block list", "fields"],
)
def test_a_bomb_is_refused_before_it_grows(bomb: str) -> None:
    with pytest.raises(DocumentError, match="more than 20,000 values, counting what its aliases stand for"):
        read_document(bomb)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_endless_nesting_is_refused_before_it_is_followed(opening: str) -> None:
    with pytest.raises(DocumentError, match=f"nested more than {DEEPEST} levels deep"):
        read_document(opening * 50_000)


def test_as_many_levels_and_values_as_allowed_are_read() -> None:
    deep = read_document("a: " + "[" * (DEEPEST - 1) + "x" + "]" * (DEEPEST - 1))
    assert "x" in str(shape(deep))
    # The table itself and the field's name count too.
    read_document("a: [" + "x, " * (MOST_NODES - 3) + "]")


PIECES = ["a: ", "b", "- ", "[", "]", "{", "}", ",", "&x ", "*x", "!!str ", "!t ", "'", '"', "|\n", ">\n", "\n", "  "]
PIECES += ["\t", "#", "? ", ": ", "%YAML 1.1\n", "---\n", "...\n", "<<: ", "\\u12", "\x85", "\ufeff", "\0", "é", "0x1"]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=40).map("".join)))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        document = read_document(text)
    except DocumentError as error:
        assert "\n" not in str(error)
    else:
        str(shape(document)).encode()
