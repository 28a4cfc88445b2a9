"""The original set: complete, readable, and placed in a user's folder once and for all."""

import shutil
from pathlib import Path

import pytest
from waifu_lollms.personalities import seeding
from waifu_lollms.personalities.images import content_type
from waifu_lollms.personalities.library import Library, seed_personalities
from waifu_lollms.personalities.model import Personality
from waifu_lollms.personalities.seeding import ORIGINAL_SET

from waifu_llm.catalog import Catalog
from waifu_llm.environment.seed import Seed

MOST_BYTES = 300_000


def originals() -> list[Personality]:
    survey = Library([ORIGINAL_SET], None).survey()
    assert survey.errors == []
    return [each for named in survey.languages.values() for there in named.values() for each in there]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def placed(root: Path) -> dict[str, bytes]:
    return {name: data for name, data in files(root).items() if not name.startswith(".")}


def test_the_set_has_six_personalities_in_two_languages_and_three_categories() -> None:
    assert len(originals()) >= 6
    assert {each.language for each in originals()} >= {"english", "french"}
    assert len({each.category for each in originals()}) >= 3
    assert "english/generic/lollms" in {each.key for each in originals()}
    assert sum(len(data) for data in files(ORIGINAL_SET).values()) < MOST_BYTES


@pytest.mark.parametrize("personality", originals(), ids=lambda each: each.key)
def test_an_original_says_all_that_a_listing_and_a_discussion_need(personality: Personality) -> None:
    file = ORIGINAL_SET / personality.key / "config.yaml"
    assert "MIT" in file.read_text("utf-8").splitlines()[0]
    assert personality.has_logo and not personality.has_scripts
    for text in (personality.name, personality.author, personality.version, personality.description):
        assert text
    assert personality.welcome_message
    assert personality.link_text == "\n"
    assert "!@>" in personality.user_message_prefix and personality.ai_message_prefix.startswith("!@>")
    assert None not in [getattr(personality.sampling, name) for name in personality.sampling.__struct_fields__]
    # Three quarters of the default context are for conditioning and discussion; most of that is the discussion's.
    assert 800 < len(personality.conditioning) < 2400
    assert f"language: {personality.language}\n" in file.read_text("utf-8")
    assert f"category: {personality.category}\n" in file.read_text("utf-8")


def test_the_seed_that_the_gateway_runs_from_holds_the_whole_set(tmp_path: Path) -> None:
    seed = Seed(Catalog.read().find("lollms")).place(tmp_path)
    assert files(seed / "waifu_lollms" / "personality_set") == files(ORIGINAL_SET)


def test_a_fresh_folder_holds_the_whole_set(tmp_path: Path) -> None:
    root = tmp_path / "data" / "personalities"
    seed_personalities(root)
    assert placed(root) == files(ORIGINAL_SET)
    assert Library([root], None).find("english/generic/lollms").has_logo
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == [".seeded.json"]


def test_what_the_user_changed_or_deleted_stays_so(tmp_path: Path) -> None:
    root = tmp_path / "personalities"
    seed_personalities(root)
    mine = root / "english" / "generic" / "lollms" / "config.yaml"
    mine.write_text("name: mine\n")
    shutil.rmtree(root / "french")
    before = placed(root)
    seed_personalities(root)
    assert placed(root) == before
    assert mine.read_text() == "name: mine\n"


def test_a_folder_that_the_user_made_before_is_left_as_it_is(tmp_path: Path) -> None:
    root = tmp_path / "personalities"
    mine = root / "english" / "generic" / "lollms"
    mine.mkdir(parents=True)
    (mine / "config.yaml").write_text("name: mine\n")
    seed_personalities(root)
    assert files(mine) == {"config.yaml": b"name: mine\n"}
    shutil.rmtree(mine)
    seed_personalities(root)
    assert not mine.exists()


def test_what_a_later_release_adds_appears(tmp_path: Path) -> None:
    release, root = tmp_path / "release", tmp_path / "personalities"
    shutil.copytree(ORIGINAL_SET / "english" / "generic", release / "english" / "generic")
    seed_personalities(root, release)
    shutil.rmtree(root / "english")
    shutil.copytree(ORIGINAL_SET / "french" / "generic", release / "french" / "generic")
    seed_personalities(root, release)
    assert {name.split("/")[0] for name in placed(root)} == {"french"}


def test_an_unreadable_record_is_as_good_as_none(tmp_path: Path) -> None:
    seed_personalities(tmp_path)
    (tmp_path / ".seeded.json").write_text("{")
    (tmp_path / "english" / "generic" / "lollms" / "config.yaml").write_text("name: mine\n")
    seed_personalities(tmp_path)
    assert (tmp_path / "english" / "generic" / "lollms" / "config.yaml").read_text() == "name: mine\n"
    assert ".seeded.json" in files(tmp_path)


def test_a_copy_that_fails_midway_leaves_nothing_and_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.copyfile

    def failing(source: str, target: str) -> object:
        if source.endswith("orin/assets/logo.png"):
            raise OSError(28, "No space left on device")
        return real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", failing)
        with pytest.raises(OSError, match="No space left"):
            seed_personalities(tmp_path)
    assert not (tmp_path / "english" / "companions" / "orin").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    seed_personalities(tmp_path)
    assert placed(tmp_path) == files(ORIGINAL_SET)


def test_a_read_only_original_becomes_the_users_own(tmp_path: Path) -> None:
    release = tmp_path / "release"
    shutil.copytree(ORIGINAL_SET / "english" / "generic", release / "english" / "generic")
    for path in release.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        seed_personalities(tmp_path / "root", release)
    finally:
        for path in release.rglob("*"):
            path.chmod(0o755)
    assert all(path.stat().st_mode & 0o200 for path in (tmp_path / "root").rglob("*"))


def test_another_gateway_that_was_quicker_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.rename

    def second(path: Path, target: Path) -> Path:
        shutil.copytree(path, target, dirs_exist_ok=True)
        return real(path, target)

    monkeypatch.setattr(Path, "rename", second)
    seed_personalities(tmp_path)
    assert placed(tmp_path) == files(ORIGINAL_SET)


def test_a_file_in_the_way_of_a_language_is_said(tmp_path: Path) -> None:
    (tmp_path / "french").touch()
    with pytest.raises(OSError):
        seed_personalities(tmp_path)
    assert (tmp_path / "english" / "generic" / "lollms").is_dir()


def test_a_rename_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(PermissionError):
        seed_personalities(tmp_path)
    assert placed(tmp_path) == {}


def test_the_logos_are_what_their_names_say() -> None:
    for file in seeding.ORIGINAL_SET.rglob("logo.*"):
        assert content_type(file.name, file.read_bytes()[:16]) == "image/png"
