"""What is fuzzed of what lies in files, and of names that must never become paths."""

import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from support.fuzz.engine import Target
from support.fuzz.roots import add_import_roots
from support.opened import everything_opened

from waifu_llm.catalog import BrokenManifest, Catalog, read_manifest
from waifu_llm.errors import UnknownProvider

add_import_roots()

from waifu_lollms.personalities.errors import PersonalityError  # noqa: E402 - its root is added above
from waifu_lollms.personalities.library import Library  # noqa: E402
from waifu_lollms.personalities.loader import BrokenFile, read_personality  # noqa: E402
from waifu_lollms.state.document import Document  # noqa: E402
from waifu_lollms.state.model import StateError  # noqa: E402

_CONFIG: Final = "name: one\npersonality_conditioning: be one\n"
_YAML_WORDS: Final = (
    *(b": ", b"- ", b"\n", b"\n  ", b"&a ", b"*a", b"!!python/object:os.system ", b"!!", b"|", b">", b"{", b"}", b"["),
    *(
        b"]",
        b'"',
        b"'",
        b"#",
        b"---\n",
        b"...\n",
        b"%YAML 1.1\n",
        b"\t",
        b"? ",
        b"<<: *a",
        b"~",
        b"0x",
        b".inf",
        b"\xff",
    ),
    *(b"\\x", b"\xef\xbb\xbf", b"1e999", b"9" * 40, b"[" * 200, b"\xc2\x85", b"\0", b"yes", b"2001-01-01"),
)


@cache
def _scratch() -> Path:
    """A folder for the whole run, with a root of personalities in it and a secret beside that."""
    folder = Path(tempfile.mkdtemp(prefix="waifu-llm-fuzz-")).resolve()
    for key in ("english/generic/one", "english/generic/two"):
        (folder / "root" / key).mkdir(parents=True)
        (folder / "root" / key / "config.yaml").write_text(_CONFIG, "utf-8")
    (folder / "outside").mkdir()
    (folder / "outside" / "config.yaml").write_text(_CONFIG, "utf-8")
    (folder / "manifest").mkdir()
    return folder


@cache
def _catalog() -> Catalog:
    catalog = Catalog.read()
    # Manifests are read when somebody first asks: from then on a name opens nothing.
    catalog.read_all()
    return catalog


@cache
def _library() -> Library:
    library = Library([_scratch() / "root"], None)
    # Reading once imports what reading needs: from then on only personalities are opened.
    assert library.survey().errors == []
    return library


def _names(data: bytes) -> None:
    """A name is looked up or refused: nothing outside of the roots is opened, whatever it says."""
    text = data.decode("utf-8", "surrogateescape").replace("OUTSIDE", str(_scratch() / "outside"))
    catalog, library = _catalog(), _library()
    with everything_opened() as opened:
        try:
            assert catalog.worker(text).name == text
        except UnknownProvider as error:
            assert len(str(error)) < 1000
        with suppress(PersonalityError):
            assert library.find(text).key.startswith("english/generic/")
        library.logo(text)
    root = str(_scratch() / "root")
    # Below an open folder's descriptor, names are relative and descriptors numbers.
    assert all(path == root or path.startswith(f"{root}/") or not path.startswith(("/", "..")) for _, path in opened), (
        opened
    )


def _manifests(data: bytes) -> None:
    """A manifest is read or broken, with a sentence."""
    folder = _scratch() / "manifest"
    (folder / "pyproject.toml").write_bytes(data)
    try:
        manifest = read_manifest(folder)
    except BrokenManifest as error:
        assert str(error)
        return
    assert manifest.declared.package.startswith("waifu_")


def _personalities(data: bytes) -> None:
    """A personality's file is read or broken, with a sentence that fits on a screen."""
    for language in (None, "english"):
        try:
            personality = read_personality(data, language=language, category="generic", folder="one")
        except BrokenFile as error:
            assert 0 < len(str(error)) < 2000
        else:
            assert personality.key.count("/") == 2


def _state_files(data: bytes) -> None:
    """lollms.yaml is read or broken; what one field becomes leaves all others as they are."""
    try:
        document = Document.of(data, "lollms.yaml")
    except StateError as error:
        assert 0 < len(str(error)) < 2000
        return
    assert document.content == data
    for changes in ({"model_name": "a: b # c"}, {"personalities": ("english/generic/one",)}, {"top_k": 7}):
        try:
            changed = document.changed(changes)
        except StateError:
            continue
        name, value = next(iter(changes.items()))
        assert getattr(changed.state, name) == value
        assert Document.of(changed.content, "lollms.yaml").state == changed.state


TARGETS: Final = (
    Target(
        "names",
        _names,
        (
            *(
                b"/",
                b"\\",
                b"..",
                b".",
                b"~",
                b"\0",
                b"english",
                b"generic",
                b"one",
                b"OUTSIDE",
                b"echo",
                b"con",
                b"file://",
            ),
            *(b"%2e%2e", b"\xe2\x80\xae", b"\xff", b" ", b"\n", b"C:", b"a" * 300, b"config.yaml", b"\xef\xbc\x8f"),
        ),
        is_audited=True,
    ),
    Target(
        "manifests",
        _manifests,
        (
            *(b"[project]\n", b"[tool.waifu-llm]\n", b"=", b'"', b"'", b"\n", b"[[", b"]]", b"{", b"}", b"nan", b"inf"),
            *(
                b'kind = "worker"\n',
                b"1979-05-27",
                b"\xff",
                b"\\u",
                b'"""',
                b".",
                b"[" * 300,
                b"9" * 40,
                b"true",
                b"\0",
            ),
        ),
    ),
    Target("personalities", _personalities, (*_YAML_WORDS, b"name", b"anti_prompts", b"model_top_k", b"link_text")),
    Target("state_files", _state_files, (*_YAML_WORDS, b"personalities", b"model_name", b"top_k", b"temperature")),
)
