"""lollms.yaml: what it means, and that a save changes nothing that is the user's."""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.waiting import WAIT_S
from waifu_lollms.state import State, StateError, StateFile
from waifu_lollms.state.document import Document
from waifu_lollms.state.template import TEMPLATE

OLD: Final = (Path(__file__).parent / "old_lollms" / "local_config.yaml").read_bytes()
FIELDS: Final = State.__struct_fields__

Written = Callable[[str | bytes], StateFile]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lollms.yaml"


@pytest.fixture
def written(path: Path) -> Written:
    """`written(content)`: the state file with this in it."""

    def write(content: str | bytes) -> StateFile:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return StateFile(path)

    return write


def state(content: str) -> State:
    return Document.of(content.encode(), "lollms.yaml").state


def changed(content: str, **changes: object) -> str:
    return Document.of(content.encode(), "lollms.yaml").changed(changes).content.decode()


# What the file says.


def test_no_file_means_the_published_defaults(path: Path) -> None:
    assert StateFile(path).read() == State()
    assert not path.exists()
    assert msgspec.structs.asdict(State()) == {
        "binding_name": None,
        "model_name": None,
        "personalities": ("english/generic/lollms",),
        "active_personality_id": 0,
        "discussion_prompt_separator": "!@>",
        "n_predict": 1024,
        "ctx_size": 2048,
        "temperature": 0.9,
        "top_k": 50,
        "top_p": 0.95,
        "repeat_last_n": 40,
        "repeat_penalty": 1.2,
        "seed": -1,
        "user_name": "user",
        "use_user_name_in_discussions": False,
        "override_personality_model_parameters": False,
    }


def test_an_old_lollms_file_is_taken_over_as_it_is(written: Written) -> None:
    assert written(OLD).read() == State(ctx_size=4084, active_personality_id=-1)


@pytest.mark.parametrize("name", ["null", "~", "", "none", "None", '"none"', "''", '" "', "Null"])
def test_no_name_is_no_binding_and_no_model(name: str) -> None:
    assert state(f"binding_name: {name}\nmodel_name: {name}\n") == State()


def test_a_binding_that_does_not_exist_is_kept_as_it_is_named() -> None:
    assert state("binding_name: llama_cpp_official\n").binding_name == "llama_cpp_official"


@pytest.mark.parametrize("content", ["", "\n", "# nothing yet\n", "---\n", "\ufeff", "---\n# still nothing\n...\n"])
def test_a_file_without_any_field_means_the_defaults(content: str) -> None:
    assert state(content) == State()


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_without_a_value_has_its_default(field: str) -> None:
    assert state(f"{field}:\n") == State() == state(f"{field}: null\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("temperature: 1", {"temperature": 1.0}),
        ("temperature: 5e-1", {"temperature": 0.5}),
        ("top_k: 40.0", {"top_k": 40}),
        ("n_predict: -1", {"n_predict": 1024}),
        ("n_predict: 0", {"n_predict": 1024}),
        ("n_predict: 99999999999999999999", {"n_predict": 2**31 - 1}),
        ("use_user_name_in_discussions: True", {"use_user_name_in_discussions": True}),
        ("use_user_name_in_discussions: yes", {"use_user_name_in_discussions": True}),
        ("use_user_name_in_discussions: Off", {"use_user_name_in_discussions": False}),
        ("%YAML 1.1\n---\noverride_personality_model_parameters: on", {"override_personality_model_parameters": True}),
        ("personalities: []", {"personalities": ()}),
        ("personalities:\n  - a/b c\n  - 'd''e'", {"personalities": ("a/b c", "d'e")}),
        ("'seed': 5", {"seed": 5}),
        ("{seed: 5, top_k: 3}", {"seed": 5, "top_k": 3}),
        ("seed: &five 5\ntop_k: *five", {"seed": 5, "top_k": 5}),
        ("5: 6\n[a]: 7\ntop_k: 3", {"top_k": 3}),
    ],
)
def test_what_stands_there_counts(line: str, expected: dict[str, object]) -> None:
    assert state(line + "\n") == msgspec.structs.replace(State(), **expected)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a: 1\ntemperature: hot\n", "line 2: temperature must be a number, not a text"),
        ("temperature: '0.7'\n", "line 1: temperature must be a number, not a text"),
        ("temperature: true\n", "line 1: temperature must be a number, not true or false"),
        ("temperature: .nan\n", "line 1: temperature must be a number from 0 to 1000, not nan"),
        ("temperature: !!float [1]\n", "line 1: temperature must be a number, not a number"),
        ("\n\ntop_p: 2\n", "line 3: top_p must be a number from 0 to 1, not 2"),
        ("top_k: 0.5\n", "line 1: top_k must be a whole number from 0 to 2147483647, not 0.5"),
        ("top_k: {a: b}\n", "line 1: top_k must be a number, not an object"),
        ("top_k: !mine 5\n", "line 1: top_k must be a number, not that"),
        ("ctx_size: 0\n", "line 1: ctx_size must be a whole number from 1 to 2147483647, not 0"),
        ("active_personality_id: -2\n", "line 1: active_personality_id must be a whole number from -1"),
        ("n_predict: many\n", "line 1: n_predict must be a number, not a text"),
        ("binding_name: 5\n", "line 1: binding_name must be a text, not a number; put it in quotes"),
        ("model_name: [a]\n", "line 1: model_name must be a text, not a list"),
        ("user_name: true\n", "line 1: user_name must be a text, not true or false; put it in quotes"),
        ("personalities: english/generic/lollms\n", "line 1: personalities must be a list of texts, not a text"),
        ("personalities: [a, 5]\n", "line 1: personalities must be a list of texts only"),
        ("personalities: [[a]]\n", "line 1: personalities must be a list of texts only"),
        ("use_user_name_in_discussions: 1\n", "line 1: use_user_name_in_discussions must be true or false, not a numb"),
        ("use_user_name_in_discussions: 'yes'\n", "line 1: use_user_name_in_discussions must be true or false, not a"),
        ("seed: 1\nseed: 2\n", "line 2: seed stands there twice"),
        ("- a\n- b\n", "line 1: it must consist of lines such as `top_k: 50`"),
        ("just a text\n", "line 1: it must consist of lines such as `top_k: 50`"),
        ("a: 1\nb: [\n", "line 3: "),
        ("a: 1\n  b: 2\n", "line 2: "),
        ("a: *nobody\n", "line 1: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "line 2: "),
        ("a: 1\n\tb: 2\n", "line 2: "),
        ("a: 1\nb: \x00\n", "line 2: a character that YAML does not allow"),
        ("a: " + "[\n " * 3000, "line 1: it is nested too deeply"),
        ("seed: " + "9" * 5000 + "\n", "line 1: seed "),
        ('user_name: "\\UFFFFFFFF"\n', "line 1: this is not YAML"),
        ("%YAML 1.7\n---\nseed: 1\n", "line 1: this is not YAML"),
    ],
)
def test_a_broken_file_is_told_with_its_line_and_never_overwritten(
    written: Written, path: Path, content: str, sentence: str
) -> None:
    file = written(content)
    for attempt in (file.read, lambda: file.save(binding_name="echo")):
        with pytest.raises(StateError) as refusal:
            attempt()
        assert str(refusal.value).startswith(f"lollms.yaml, {sentence}")
        assert "\n" not in str(refusal.value)
    assert path.read_text("utf-8") == content


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a: 1\n# caf\xe9\n".encode("latin-1"), "lollms.yaml, line 2: this is not UTF-8"),
        (b"# " + b"x" * 128 * 1024, "lollms.yaml cannot be read: it has more than 128 KiB"),
    ],
)
def test_what_is_no_text_or_too_long_is_refused(written: Written, path: Path, content: bytes, sentence: str) -> None:
    file = written(content)
    for attempt in (file.read, lambda: file.save(binding_name="echo")):
        with pytest.raises(StateError) as refusal:
            attempt()
        assert str(refusal.value) == sentence
    assert path.read_bytes() == content


def bomb(field: str) -> str:
    """Nine levels of nine aliases each: a hundred million texts once they are copied."""
    lines = ["l0: &l0 [boom]"]
    lines += [f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]" for level in range(1, 10)]
    return "\n".join([*lines, f"{field}: *l9", ""])


def test_an_alias_bomb_is_an_error_where_it_means_something_and_kept_where_it_does_not() -> None:
    with pytest.raises(StateError, match="line 11: personalities must be a list of texts only"):
        state(bomb("personalities"))
    assert changed(bomb("other"), binding_name="echo") == bomb("other") + "binding_name: echo\n"


# What a save leaves alone.


def test_the_first_save_writes_a_file_that_explains_itself(path: Path) -> None:
    saved = StateFile(path).save(binding_name="ollama")
    assert saved == State(binding_name="ollama") == StateFile(path).read()
    assert path.read_text("utf-8") == TEMPLATE.replace("binding_name: null", "binding_name: ollama")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 or os.name == "nt"


def test_the_first_file_names_every_field_with_its_default() -> None:
    document = Document.of(TEMPLATE.encode(), "lollms.yaml")
    assert document.state == State() and document.entries.keys() == set(FIELDS)


def test_an_old_lollms_file_keeps_every_character_but_those_of_the_changed_values(written: Written, path: Path) -> None:
    file = written(OLD)
    more = ("english/generic/lollms", "français/art/l'artiste")
    file.save(binding_name="ollama", model_name="llama3:8b", personalities=more, active_personality_id=1)
    expected = (
        OLD.decode()
        .replace("binding_name: null\nmodel_name: null", "binding_name: ollama\nmodel_name: llama3:8b")
        .replace('["english/generic/lollms"]', '["english/generic/lollms", "français/art/l\'artiste"]')
        .replace("active_personality_id: -1", "active_personality_id: 1")
    )
    assert path.read_bytes().decode() == expected


def test_what_is_saved_again_is_not_written_again(written: Written, path: Path) -> None:
    file = written('binding_name: "none"   # later\r\ntop_k:   5')
    path.chmod(0o400)
    before = path.stat()
    assert file.save(binding_name=None, top_k=5) == State(top_k=5)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("binding_name: echo\n", "binding_name: ollama\n"),
        ("binding_name: 'echo' # mine\n", "binding_name: 'ollama' # mine\n"),
        ('binding_name: "echo"\n', 'binding_name: "ollama"\n'),
        ("binding_name   :    echo   \n", "binding_name   :    ollama   \n"),
        ("binding_name:\n", "binding_name: ollama\n"),
        ("binding_name:   # none yet\nb: 1\n", "binding_name: ollama   # none yet\nb: 1\n"),
        ("binding_name:", "binding_name: ollama"),
        ("binding_name: ~", "binding_name: ollama"),
        ("a: 1", "a: 1\nbinding_name: ollama\n"),
        ("a: 1\r\n", "a: 1\r\nbinding_name: ollama\r\n"),
        ("a: 1\rb: 2", "a: 1\rb: 2\rbinding_name: ollama\r"),
        ("\ufeffa: 1\n", "\ufeffa: 1\nbinding_name: ollama\n"),
        ("  a: 1\n", "  a: 1\n  binding_name: ollama\n"),
        ("# a comment only\n", "# a comment only\nbinding_name: ollama\n"),
        ("# a comment only", "# a comment only\nbinding_name: ollama\n"),
        ("", "binding_name: ollama\n"),
        ("---\n", "---\nbinding_name: ollama\n"),
        ("a: |\n  text\n\n# end\n", "a: |\n  text\n\n# end\nbinding_name: ollama\n"),
        ("{binding_name: echo, b: 2}\n", "{binding_name: ollama, b: 2}\n"),
        ("? binding_name\n: echo\n", "? binding_name\n: ollama\n"),
    ],
)
def test_a_new_value_takes_the_place_of_the_old_in_its_form(before: str, after: str) -> None:
    assert changed(before, binding_name="ollama") == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("personalities: [a]  # mine\n", "personalities: [a, b, c d]  # mine\n"),
        ("personalities: ['a']\n", "personalities: ['a', 'b', 'c d']\n"),
        ('personalities: [\n  "a",  # first\n]\n', 'personalities: [\n  "a", "b", "c d",  # first\n]\n'),
        ("personalities:\n- a # first\n# last\nb: 1\n", "personalities:\n- a # first\n- b\n- c d\n# last\nb: 1\n"),
        ("personalities:\r\n    - 'a'\r\n", "personalities:\r\n    - 'a'\r\n    - 'b'\r\n    - 'c d'\r\n"),
        ("personalities:\n- a", "personalities:\n- a\n- b\n- c d"),
        ("personalities: []\n", "personalities: [b]\n"),
        ("personalities:\n", "personalities: [b]\n"),
        ("personalities: [x, 'a#b', y]\n", "personalities: [b]\n"),
        ("personalities:\n- x\n- y\n\n# z\n", "personalities: [b]\n\n# z\n"),
    ],
)
def test_a_list_grows_where_it_ends_and_is_replaced_where_it_shrinks(before: str, after: str) -> None:
    known = state(before).personalities
    grown = (*known, "b", "c d") if known == ("a",) else ("b",)
    # Items that stand among quoted ones are quoted, and so are those with anything but letters and the like.
    written = changed(before, personalities=grown).replace('"c d"', "c d" if '"a"' not in before else '"c d"')
    assert written in (after, after.replace("[b]", '["b"]'))


@pytest.mark.parametrize(
    "content",
    [
        "model_name: |\n  one\n",
        "model_name: > # why\n  one\n",
        "x: &name one\nmodel_name: *name\n",
        "model_name: &name one\nx: *name\n",
        "personalities:\n- a # first\n- b\nmodel_name: one\n...\n",
        "{a: 1}\n",
        "a: 1\n...\n",
    ],
)
def test_what_cannot_be_changed_without_loss_is_told_and_left_alone(written: Written, path: Path, content: str) -> None:
    file = written(content)
    with pytest.raises(StateError, match="cannot be changed as it is written"):
        file.save(model_name="two", personalities=("c",))
    assert path.read_text("utf-8") == content


def test_a_value_that_would_not_be_read_back_is_not_saved(path: Path) -> None:
    for changes in ({"binding_name": "none"}, {"seed": "x"}):
        with pytest.raises(StateError, match="cannot be changed as it is written"):
            StateFile(path).save(**changes)
    assert not path.exists()


PIECES: Final = st.sampled_from(
    (
        *"seed top_k : - ? [ ] { } , # &a *a !!int !!str !!bool !!null !!binary".split(),
        *"| > ' \" \\U FFFFFFFF %YAML 1.3 --- ... 1 0x é".split(),
        *(": ", "- ", "<<: ", "\n", "\n  ", "\t", "\r", "\x85"),
    )
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=16).map("".join))
def test_whatever_stands_there_is_read_or_refused_with_a_line_and_a_refused_save_is_the_only_other_end(
    content: str,
) -> None:
    try:
        before = state(content)
    except StateError as error:
        assert str(error).startswith("lollms.yaml, line ")
        return
    try:
        saved = changed(content, binding_name="ollama", top_k=3)
    except StateError as error:
        assert "cannot be changed" in str(error)
    else:
        assert state(saved) == msgspec.structs.replace(before, binding_name="ollama", top_k=3)


TEXTS: Final = st.text(max_size=12) | st.sampled_from(
    (
        "",
        "yes",
        "null",
        "12:30",
        "0x1f",
        "- a",
        "a: b",
        "a #b",
        "#",
        "'",
        '"',
        "\\",
        "{{}}",
        "!x",
        "*x",
        "\x85",
        "\ud800",
    )
)


@settings(deadline=None)
@given(before=TEXTS, after=TEXTS, items=st.lists(TEXTS, min_size=1, max_size=3), quote=st.sampled_from(("", "'", '"')))
def test_every_text_can_be_saved_whatever_stood_there(before: str, after: str, items: list[str], quote: str) -> None:
    content = changed("", user_name=before, personalities=()) + f"model_name: {quote}x{quote}\n"
    saved = changed(content, user_name=after, personalities=tuple(items), model_name=f"m{after}")
    assert state(saved) == State(user_name=after, personalities=tuple(items), model_name=f"m{after}")
    longer = (*items, before)
    assert state(changed(saved, personalities=longer)).personalities == longer


COMMENTS: Final = st.sampled_from(("", "# plain", "#x: 1", "  # indented", "# 日本 'quoted\" - [", ""))
LINES: Final = st.sampled_from(
    (
        "binding_name: echo",
        "binding_name: 'none'  # for now",
        "model_name:",
        'model_name:  "a # b"',
        "personalities: ['x']  # [",
        "personalities:\n- x\n#between\n-  'y'  # last",
        "active_personality_id:   0x0",
        "top_k: +5",
        "unknown: True",
        "nested:\n    deep: ~   # kept\n    list: [1,  2]",
        "text: |\n  one\n  # not a comment\n",
        "folded: 'a\n  b'",
    )
)


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(st.tuples(LINES, COMMENTS), unique_by=lambda part: part[0].split(":")[0], max_size=8),
    line_end=st.sampled_from(("\n", "\r\n")),
    bom=st.sampled_from(("", "\ufeff")),
    model=st.none() | st.text(max_size=8).filter(lambda name: name.strip().lower() not in ("", "none", "null")),
    active=st.integers(-1, 5),
    finished=st.booleans(),
)
def test_a_save_keeps_every_comment_every_other_line_and_the_line_ends(
    parts: list[tuple[str, str]], line_end: str, bom: str, model: str | None, active: int, finished: bool
) -> None:
    lines = [line for entry, comment in parts for line in (comment, entry)]
    content = bom + line_end.join("\n".join(lines).split("\n")) + (line_end if finished else "")
    known = state(content)
    changes = {"model_name": model, "active_personality_id": active, "personalities": (*known.personalities, "new")}
    saved = changed(content, **changes)
    assert state(saved) == msgspec.structs.replace(known, **changes)
    assert saved.startswith(bom)
    if line_end not in content:
        line_end = "\n"  # nothing to go by
    assert saved.count("\n") == saved.count(line_end)
    old, new = content.removeprefix(bom).split(line_end), saved.removeprefix(bom).split(line_end)
    ours = ("model_name", "active_personality_id", "personalities")
    remaining = iter(new)
    for line in old:
        if not line.startswith(ours):
            assert line in remaining  # in this order: what was looked at is gone
        elif "#" in line and line.startswith("personalities"):
            assert any(line.partition("#")[2] in other for other in new)


# Files, links and several at once.


def test_a_name_that_is_no_field_is_a_mistake_of_the_caller(path: Path) -> None:
    with pytest.raises(TypeError, match="no such field: colour, port"):
        StateFile(path).save(port=1, colour="red", top_k=4)
    assert not path.exists()


def test_a_file_that_would_be_too_long_to_be_read_again_is_not_written(written: Written, path: Path) -> None:
    file = written("a: 1\n")
    with pytest.raises(StateError, match="cannot be saved: it has more than 128 KiB"):
        file.save(user_name="x" * 128 * 1024)
    assert path.read_text("utf-8") == "a: 1\n"


def test_the_folder_is_made_with_the_first_save(tmp_path: Path) -> None:
    path = tmp_path / "data" / "lollms" / "lollms.yaml"
    StateFile(path).save(top_k=3)
    assert StateFile(path).read() == State(top_k=3)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
def test_a_save_keeps_the_files_mode(written: Written, path: Path, mode: int) -> None:
    file = written("a: 1\n")
    path.chmod(mode)
    file.save(top_k=3)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path: Path, path: Path) -> None:
    target = tmp_path / "dotfiles" / "mine.yaml"
    target.parent.mkdir()
    target.write_text("top_k: 1 # mine\n", "utf-8")
    path.symlink_to(target)
    StateFile(path).save(top_k=2)
    assert path.is_symlink() and target.read_text("utf-8") == "top_k: 2 # mine\n"
    assert [file.name for file in target.parent.iterdir()] == ["mine.yaml"]


def test_a_link_to_nothing_is_a_missing_file_and_to_itself_an_error(tmp_path: Path, path: Path) -> None:
    path.symlink_to(tmp_path / "later.yaml")
    assert StateFile(path).read() == State()
    StateFile(path).save(top_k=2)
    assert path.is_symlink() and StateFile(tmp_path / "later.yaml").read().top_k == 2
    path.unlink()
    path.symlink_to(path)
    for attempt in (StateFile(path).read, lambda: StateFile(path).save(top_k=3)):
        with pytest.raises(StateError, match=r"lollms\.yaml cannot be read: Too many levels of symbolic links"):
            attempt()


def test_what_is_no_file_is_neither_read_nor_replaced(path: Path) -> None:
    path.mkdir()
    for attempt in (StateFile(path).read, lambda: StateFile(path).save(top_k=3)):
        with pytest.raises(StateError, match=r"lollms\.yaml cannot be read: it is not a file"):
            attempt()
    assert path.is_dir()


def test_a_folder_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    file = StateFile(tmp_path / "file" / "lollms.yaml")
    with pytest.raises(StateError, match=r"lollms\.yaml cannot be read: Not a directory"):
        file.read()
    with pytest.raises(StateError, match=r"lollms\.yaml cannot be saved: "):
        file.save(top_k=3)


def test_a_save_clears_away_what_a_killed_one_left_and_nothing_else(written: Written, path: Path) -> None:
    file = written("a: 1\n")
    leftover = path.with_name(f".{path.name}.{'0' * 16}.tmp")
    other = path.with_name(f".{path.name}.mine.tmp")
    for each in (leftover, other):
        each.write_bytes(b"half")
    file.save(top_k=3)
    assert not leftover.exists() and other.exists()


def test_saves_of_many_threads_come_one_after_the_other_and_none_is_lost(path: Path) -> None:
    changes: list[dict[str, object]] = [{"top_k": 3}, {"seed": 4}, {"ctx_size": 5}, {"user_name": "b"}, {"top_p": 0.5}]
    start = threading.Barrier(len(changes))

    def save(change: dict[str, object]) -> None:
        start.wait(WAIT_S)
        StateFile(path).save(**change)

    threads = [threading.Thread(target=save, args=(change,), daemon=True) for change in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert StateFile(path).read() == State(top_k=3, seed=4, ctx_size=5, user_name="b", top_p=0.5)
