"""Nothing outside the roots is ever opened, whatever clients send and whatever lies inside (FAULTS S12-S14)."""

import itertools
import os
from pathlib import Path

import pytest
from support.audited import run_audited
from support.opened import everything_opened, outside
from waifu_lollms.personalities.files import Confinement
from waifu_lollms.personalities.library import Library, PersonalityError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
SECRET = "name: secret\npersonality_conditioning: outside\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one personality, beside a secret one that is not in it."""
    for folder in ("root/english/generic/lollms", "secret/generic/lollms", "root-2/english/generic/lollms"):
        (tmp_path / folder / "assets").mkdir(parents=True)
        (tmp_path / folder / "config.yaml").write_text(SECRET if "root/" not in folder else "name: lollms\n")
        (tmp_path / folder / "assets" / "logo.png").write_bytes(PNG)
    return tmp_path / "root"


def corpus(root: Path) -> list[str]:
    """Ways out that were tried on this and other servers, each with each way of writing it."""
    secret, beside = root.parent / "secret", root.parent / "root-2"
    ups = [
        "..",
        "../..",
        "../../..",
        "..%2f..",
        "....//",
        "....\\\\",
        "..\\..",
        "..;",
        ". .",
        "..\u2215",
        "．．",
        "..\0",
    ]
    tails = ["secret/generic/lollms", "etc/passwd", "root-2/english/generic/lollms", "secret", ""]
    heads = ["", "english/", "english/generic/", "english/generic/lollms/", "./", "/", "//", "file://", "~/"]
    found = [f"{head}{up}/{tail}" for head, up, tail in itertools.product(heads, ups[:7], tails)]
    found += [f"{up}/{tail}" for up, tail in itertools.product(ups[7:], tails)]
    absolute = [
        secret / "generic" / "lollms",
        beside / "english" / "generic" / "lollms",
        Path("/etc/passwd"),
        Path("/"),
    ]
    for path in absolute:
        found += [
            str(path),
            f"{path}/",
            f"//{path}",
            f"file://{path}",
            f"{root}/../{path}",
            f"{root}{path}",
            f"{path}\0",
        ]
        found += [
            f"{root}/{os.path.relpath(path, root)}",
            f"{root}/english/../../{path.name}",
            f"/proc/self/root{path}",
        ]
    windows = [
        "C:\\Windows\\win.ini",
        "C:/Windows/win.ini",
        "\\\\server\\share\\x",
        "//server/share/x",
        "C:x",
        "\\\\?\\C:\\x",
    ]
    windows += [
        "con",
        "con/con",
        "nul/aux",
        "english/generic/con",
        "english/generic/lollms.",
        "english/generic/lollms ",
    ]
    windows += ["english/generic/lollms::$DATA", "english\\generic\\lollms", "ENGLI~1/GENERI~1/LOLLMS~1", "com1/lpt1/x"]
    found += windows
    odd = [
        "",
        "/",
        ".",
        "..",
        "//",
        "///",
        "\0",
        "a",
        "a/b/c/d/e",
        "*/*/*",
        "english/*/lollms",
        "$HOME/x",
        "${HOME}/x/y",
    ]
    odd += ["{{date}}/x", "%s/%s", "english/generic/" + "a" * 300, "a/" * 3000, "/" * 5000, "é" * 5000, "\ud800/x/y"]
    odd += [
        "english/generic/lollms/config.yaml",
        "english/generic/lollms/assets",
        "generic/../../secret",
        "\n/\r",
        "a\nb/c",
    ]
    return found + odd


def test_nothing_outside_is_opened_by_any_of_them(tmp_path: Path) -> None:
    run_audited(tmp_path, __file__)


@pytest.mark.audited
def test_no_path_of_a_client_opens_anything_outside_the_roots(root: Path) -> None:
    tried = corpus(root)
    assert len(set(tried)) >= 400
    Library([root], None).survey()  # Python itself opens what it imports at the first use
    found = Library([root], None)
    with everything_opened() as opened:
        for path in tried:
            with pytest.raises(PersonalityError) as caught:
                found.find(path)
            assert "\n" not in str(caught.value) and str(root.parent) not in str(caught.value)
            assert found.logo(path) is None
        assert found.find("english/generic/lollms").name == "lollms"
        assert found.logo("english/generic/lollms") is not None
    assert any(path.endswith("config.yaml") for _, path in opened), "the hook sees what is opened"
    assert not outside(opened, root)


@pytest.mark.audited
@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("leak", "secret"),
        ("english/leak", "secret/generic"),
        ("english/generic/leak", "secret/generic/lollms"),
        ("generic/leak", "secret/generic/lollms"),
        ("english/leak/deep", "secret/generic/lollms"),
        ("english/generic/leak/config.yaml", "secret/generic/lollms/config.yaml"),
        ("english/generic/leak/config.yaml", "nowhere"),
        ("english/generic/leak", "secret/../secret/generic/lollms"),
        ("english/generic/leak", "root-2/english/generic/lollms"),
    ],
)
def test_a_link_out_of_the_root_is_an_error_and_not_followed(root: Path, link: str, target: str) -> None:
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(root.parent / target)
    found = Library([root], None)
    with everything_opened() as opened:
        survey = found.survey()
        for path in ("leak/generic/lollms", "english/leak/lollms", "english/generic/leak", "generic/leak"):
            with pytest.raises(PersonalityError):
                found.find(path)
            with pytest.raises(PersonalityError):
                found.find(f"{root}/{path}")
    assert not outside(opened, root)
    assert [each.name for each in survey.languages["english"]["generic"]] == ["lollms"]
    (error,) = survey.errors
    assert "leak" in error.path
    assert "personality folders" in error.message
    assert ("gateway.lollms.personality_roots" in error.message) is not link.endswith("config.yaml")


@pytest.mark.audited
@pytest.mark.parametrize("link", ["assets", "assets/logo.png", "scripts"])
def test_a_link_out_of_a_personality_is_as_if_it_were_not_there(root: Path, link: str) -> None:
    folder = root / "english" / "generic" / "linked"
    folder.mkdir()
    (folder / "config.yaml").write_text("name: linked\n")
    target = root.parent / "secret" / "generic" / "lollms" / ("assets" if link == "scripts" else link)
    (folder / link).parent.mkdir(exist_ok=True)
    (folder / link).symlink_to(target)
    found = Library([root], None)
    with everything_opened() as opened:
        personality = found.find("english/generic/linked")
        assert not personality.has_logo and not personality.has_scripts
        assert found.logo(personality.key) is None
    assert not outside(opened, root)


def test_links_that_stay_inside_are_followed(root: Path) -> None:
    folder = root / "french" / "generic" / "linked"
    folder.mkdir(parents=True)
    original = root / "english" / "generic" / "lollms"
    for name in ("config.yaml", "assets"):
        (folder / name).symlink_to(original / name)
    found = Library([root], None)
    assert found.find("french/generic/linked").name == "lollms"
    logo = found.logo("french/generic/linked")
    assert logo is not None
    assert logo.file == (original / "assets" / "logo.png").resolve()


def test_links_in_a_circle_hide_nothing_else(root: Path) -> None:
    (root / "me").symlink_to(root / "me")
    (root / "english" / "up").symlink_to(root)
    (root / "english" / "generic" / "here").symlink_to(root / "english" / "generic")
    survey = Library([root], None).survey()
    assert "lollms" in [each.name for each in survey.languages["english"]["generic"]]
    # Through the link the root's languages are categories, where no personality lies.
    assert {error.path for error in survey.errors} == {"english/generic/here", "english/up/english"}


@pytest.mark.parametrize("name", ["config.yaml", "assets/logo.png"])
def test_a_pipe_in_the_place_of_a_file_holds_nobody_up(root: Path, name: str) -> None:
    folder = root / "english" / "generic" / "piped"
    (folder / "assets").mkdir(parents=True)
    (folder / "config.yaml").write_text("name: piped\n")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    found = Library([root], None)
    survey = found.survey()
    assert found.logo("english/generic/piped") is None
    if name == "config.yaml":
        assert [error.message for error in survey.errors] == ["config.yaml cannot be read: it is no regular file"]
    else:
        assert not found.find("english/generic/piped").has_logo


def test_a_file_that_becomes_a_pipe_or_a_link_once_it_was_looked_at_is_not_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root / "english" / "generic" / "lollms" / "config.yaml"
    secret = root.parent / "secret" / "generic" / "lollms" / "config.yaml"
    confinement = Confinement([root])
    seen = confinement.resolved(file)
    assert seen is not None
    info = file.stat()
    monkeypatch.setattr(confinement, "resolved", lambda _: seen)
    real = Path.stat
    monkeypatch.setattr(
        Path, "stat", lambda path, **options: info if path == seen and options == {} else real(path, **options)
    )
    file.unlink()
    file.symlink_to(secret)
    with pytest.raises(OSError):
        confinement.read(file, 1000)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(OSError, match="no regular file"):
        confinement.read(file, 1000)


def test_a_root_that_is_a_link_is_the_users_own_choice(root: Path) -> None:
    (root.parent / "chosen").symlink_to(root)
    found = Library([root.parent / "chosen"], None)
    assert found.find("generic/lollms").name == "lollms"
    assert found.find(str(root / "english" / "generic" / "lollms")).name == "lollms"
