"""What a `config.yaml` says, in all the ways the published ones say it."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waifu_lollms.personalities.loader import BrokenFile, read_personality
from waifu_lollms.personalities.model import Personality, Sampling


def read(text: str | bytes, language: str | None = "english") -> Personality:
    data = text.encode() if isinstance(text, str) else text
    return read_personality(data, language=language, category="generic", folder="folder")


def broken(text: str | bytes, language: str | None = "english") -> str:
    with pytest.raises(BrokenFile) as caught:
        read(text, language)
    return str(caught.value)


def test_an_empty_file_is_a_personality_with_the_published_defaults() -> None:
    assert read("") == Personality(
        key="english/generic/folder",
        folder="folder",
        language="english",
        category="generic",
        name="folder",
        user_message_prefix="!@> Human: ",
        link_text="\n",
        ai_message_prefix="!@> lollms:",
        include_welcome_message=True,
        sampling=Sampling(),
    )


def test_every_field_is_read() -> None:
    text = """\
name: Mika
author: somebody
version: 1.0.0
language: French
category: Elsewhere
personality_description: |
  Warm.
personality_conditioning: |
  It is {{date}}, {{time}}, {{date_time}}.
welcome_message: 'Hello!'
include_welcome_message_in_discussion: false
user_name: guest
user_message_prefix: '!@>guest: '
link_text: '\\n'
ai_message_prefix: '!@>Mika:'
anti_prompts: ["!@>", "", ~, 7]
model_temperature: 0.6
model_n_predicts: 8192
model_top_k: 50
model_top_p: 0.90
model_repeat_penalty: 1
model_repeat_last_n: 40.0
disclaimer: It is fiction.
help: Ask.
commands: [{name: Send File, value: send_file, is_file: true}]
dependencies: [pillow]
processor_cfg: {custom_workflow: yes, steps: 3, rate: 1e-1, note: ~, 'quoted': '3', day: 2024-01-01}
recommended_binding: ''
"""
    assert read(text) == Personality(
        key="english/generic/folder",
        folder="folder",
        language="english",
        category="generic",
        name="Mika",
        author="somebody",
        version="1.0.0",
        description="Warm.\n",
        conditioning="It is {{date}}, {{time}}, {{date_time}}.\n",
        welcome_message="Hello!",
        include_welcome_message=False,
        user_name="guest",
        user_message_prefix="!@>guest: ",
        link_text="\n",
        ai_message_prefix="!@>Mika:",
        anti_prompts=("!@>", "7"),
        sampling=Sampling(temperature=0.6, n_predicts=8192, top_k=50, top_p=0.9, repeat_penalty=1.0, repeat_last_n=40),
        disclaimer="It is fiction.",
        help="Ask.",
        commands=[{"name": "Send File", "value": "send_file", "is_file": True}],
        dependencies=["pillow"],
        processor_cfg={
            "custom_workflow": True,
            "steps": 3,
            "rate": 0.1,
            "note": None,
            "quoted": "3",
            "day": "2024-01-01",
        },
    )


@pytest.mark.parametrize(("version", "text"), [("1.0", "1.0"), ("2.10", "2.10"), ("'3'", "3"), ("v1", "v1"), ("", "")])
def test_a_version_is_a_text_or_a_number_and_stays_as_written(version: str, text: str) -> None:
    assert read(f"version: {version}\n").version == text


@pytest.mark.parametrize(
    ("link_text", "found"), [("'\\n'", "\n"), ('"\\n"', "\n"), ("\\n\\n", "\n\n"), ("' '", " "), ("''", "")]
)
def test_a_backslash_and_an_n_link_like_a_newline(link_text: str, found: str) -> None:
    assert read(f"link_text: {link_text}\n").link_text == found


@pytest.mark.parametrize(
    ("value", "found"),
    [("[]", ()), ("''", ()), ("", ()), ("'!@>'", ("!@>",)), ("\n- a\n-\n- ''\n- b", ("a", "b"))],
)
def test_anti_prompts_are_a_list_or_one_text_without_empty_ones(value: str, found: tuple[str, ...]) -> None:
    assert read(f"anti_prompts: {value}\n").anti_prompts == found


@pytest.mark.parametrize(
    ("fields", "included"),
    [
        ("include_welcome_message_in_disucssion: False", False),
        ("include_welcome_message_in_disucssion: no", False),
        ("include_welcome_message_in_discussion: Off", False),
        ("include_welcome_message_in_discussion: 'yes'", True),
        ("include_welcome_message_in_discussion: n", False),
        ("include_welcome_message_in_discussion:", True),
        ("include_welcome_message_in_discussion: true\ninclude_welcome_message_in_disucssion: false", True),
        ("include_welcome_message_in_discussion: false\ninclude_welcome_message_in_disucssion: true", False),
    ],
)
def test_both_spellings_of_the_welcome_switch_and_old_booleans_are_read(fields: str, included: bool) -> None:
    assert read(fields).include_welcome_message is included


@pytest.mark.parametrize(
    ("text", "found"), [("1_000", 1000), ("'50'", 50), ("-1", -1), ("1e3", 1000), ("+7", 7), (" 8 ", 8)]
)
def test_whole_numbers_are_read_in_the_ways_people_write_them(text: str, found: int) -> None:
    assert read(f"model_top_k: {text}\n").sampling.top_k == found


def test_without_a_language_folder_the_file_says_it() -> None:
    assert read("language: ' French '\n", None).key == "french/generic/folder"
    assert read("", None).key == "english/generic/folder"
    assert read("language:\n", None).key == "english/generic/folder"


def test_a_key_is_the_same_in_either_unicode_form() -> None:
    found = read_personality(b"", language="franc\u0327ais", category="cafe\u0301", folder="e\u0301t\u00e9")
    assert found.key == "fran\u00e7ais/caf\u00e9/\u00e9t\u00e9"
    assert found.name == found.folder == "\u00e9t\u00e9"


def test_a_name_that_is_empty_is_the_folders() -> None:
    assert read("name: ' '\n").name == "folder"


def test_a_byte_order_mark_is_no_part_of_the_first_field() -> None:
    assert read(b"\xef\xbb\xbfname: Mika\r\n").name == "Mika"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [a]", "config.yaml, line 1: name must be a text, not a list"),
        ("\nversion: {a: b}", "config.yaml, line 2: version must be a text, not a group of fields"),
        ("model_top_k: many", "config.yaml, line 1: model_top_k must be a whole number, not 'many'"),
        ("model_top_k: 1.5", "config.yaml, line 1: model_top_k must be a whole number, not '1.5'"),
        ("model_top_k: true", "config.yaml, line 1: model_top_k must be a whole number, not 'true'"),
        ("model_top_k: 1e300", "config.yaml, line 1: model_top_k must be a whole number, not '1e300'"),
        ("model_top_k: []", "config.yaml, line 1: model_top_k must be a whole number, not a list"),
        ("model_top_p: .nan", "config.yaml, line 1: model_top_p must be a number, not '.nan'"),
        ("model_top_p: 1e999", "config.yaml, line 1: model_top_p must be a number, not '1e999'"),
        ("model_top_p: {}", "config.yaml, line 1: model_top_p must be a number, not a group of fields"),
        ("anti_prompts: {a: b}", "config.yaml, line 1: anti_prompts must be a list of texts, not a group of fields"),
        ("anti_prompts:\n- a\n- [b]", "config.yaml, line 3: anti_prompts must be a list of texts, not a list"),
        (
            "include_welcome_message_in_discussion: maybe",
            "config.yaml, line 1: include_welcome_message_in_discussion must be true or false, not 'maybe'",
        ),
        (
            "include_welcome_message_in_disucssion: []",
            "config.yaml, line 1: include_welcome_message_in_disucssion must be true or false, not a list",
        ),
        ("a: [", "config.yaml, line 1: expected the node content, but found '<stream end>'"),
        (b"name: a\nauthor: \xff\n", "config.yaml, line 2: the text is not UTF-8"),
        ("name: Mika\n".encode("utf-16"), "config.yaml, line 1: the text is not UTF-8"),
    ],
)
def test_a_broken_file_says_the_field_and_what_was_expected(text: str | bytes, message: str) -> None:
    assert broken(text) == message


@pytest.mark.parametrize("language", ["'../x'", "a/b", "''", '"a\\0"', "'.'"])
def test_a_file_cannot_name_a_language_that_is_a_path(language: str) -> None:
    assert "language must be the name of a language" in broken(f"language: {language}\n", None)


def test_a_field_nobody_knows_is_no_fault() -> None:
    assert read("something: [1, {new: thing}]\n? [odd]\n: key\n") == read("")


FIELDS = "name version anti_prompts model_top_k model_top_p commands processor_cfg language".split()
FIELDS += ["include_welcome_message_in_discussion", "include_welcome_message_in_disucssion", "link_text"]
VALUES = ["1__0", "1_", "_", "1e", "-", ".5", "5.", "999999999999999999999", "१२", "~", "*a", "&a [x]", "{a: *a}"]
VALUES += ["[[[1]]]", "{a: {b: [c, 1e999, .inf]}}", "'\\ud800'", '"\\ud800"', "0x1f", "yes", "2024-01-01", "|", "''"]


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(),
        st.lists(st.tuples(st.sampled_from(FIELDS), st.one_of(st.sampled_from(VALUES), st.text(max_size=20)))).map(
            lambda pairs: "\n".join(f"{name}: {value}" for name, value in pairs).encode("utf-8", "replace")
        ),
    ),
    st.sampled_from([None, "english"]),
)
def test_no_file_raises_anything_else_and_every_personality_can_be_sent(data: bytes, language: str | None) -> None:
    try:
        found = read(data, language)
    except BrokenFile as error:
        assert str(error)
    else:
        assert msgspec.json.decode(msgspec.json.encode(found), type=Personality) == found
