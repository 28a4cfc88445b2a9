"""scripts/lock.py over a small index of the test's own."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support.package_index import PackageIndex, serving
from support.stores import write_wheel, write_worker

ROOT = Path(__file__).resolve().parents[2]
OLD, YOUNG = "2020-01-01T00:00:00Z", "2026-11-20T00:00:00Z"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    sys.modules.pop("lock", None)
    import lock

    return lock


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an index with dep 1.0 (old) and dep 2.0 (young)."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for version in ("1.0", "2.0"):
        write_wheel(wheels, "dep", version, {"dep.py": b""})
    with serving(PackageIndex(wheels, {"1.0": OLD, "2.0": YOUNG})) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.simple)
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
        yield index.address


@pytest.fixture
def workers(tmp_path: Path) -> Path:
    root = tmp_path / "workers"
    manifest = write_worker(root, "tiny", "")
    file = manifest.folder / "pyproject.toml"
    file.write_text(file.read_text().replace('["msgspec"]', '["dep"]'))
    manifest.lock.unlink()
    return root


def test_a_lock_has_hashes_and_no_address_and_nothing_younger_than_the_cooling_off(
    script: ModuleType, index: str, workers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--root", str(workers), "--exclude-newer", "2026-11-15"]
    assert script.main(["--check", *asked]) == 1
    assert not (workers / "tiny" / "requirements.lock").exists(), "a check writes nothing"
    assert script.main(asked) == 0
    text = (workers / "tiny" / "requirements.lock").read_text()
    assert "dep==1.0" in text and "--hash=sha256:" in text
    assert index not in text and str(workers) not in text
    assert "+ dep==1.0" in capsys.readouterr().out
    assert script.main(["--check", *asked]) == 0


def test_what_is_locked_stays_until_an_upgrade_is_asked_for(
    script: ModuleType, index: str, workers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = workers / "tiny" / "requirements.lock"
    assert script.main(["--root", str(workers), "--exclude-newer", "2026-11-15"]) == 0
    later = ["--root", str(workers), "--exclude-newer", "2026-11-22"]
    assert script.main(later) == 0
    assert "dep==1.0" in lock.read_text()
    other = write_worker(workers, "other", "").folder / "pyproject.toml"
    other.write_text(other.read_text().replace('["msgspec"]', "[]"))
    assert script.main(["--upgrade", *later, "other"]) == 0
    assert "dep==1.0" in lock.read_text(), "only those that were named"
    capsys.readouterr()
    assert script.main(["--upgrade", *later]) == 0
    assert "dep==2.0" in lock.read_text()
    assert capsys.readouterr().out.splitlines()[:2] == ["tiny: - dep==1.0", "tiny: + dep==2.0"]


def test_a_file_that_was_added_to_a_locked_release_or_taken_from_it_is_told(
    script: ModuleType,
    index: str,
    workers: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = ["--root", str(workers), "--exclude-newer", "2026-11-15", "--upgrade"]
    assert script.main(asked) == 0
    write_wheel(tmp_path / "wheels", "dep", "1.0", {"dep.py": b"more\n"}, "cp311-none-any")
    capsys.readouterr()
    # uv keeps the page of an index for ten minutes.
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "second"))
    assert script.main([*asked, "--check"]) == 0, "the lock still fits"
    assert capsys.readouterr().out == "tiny: ! dep==1.0: 0 of its 1 files are gone, 1 are new\n"
    write_wheel(tmp_path / "wheels", "dep", "1.0", {"dep.py": b"another file\n"})
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "third"))
    assert script.main(asked) == 0
    told = "tiny: ! dep==1.0: 1 of its 1 files are gone, 2 are new\ntiny: written, 1 packages\n"
    assert capsys.readouterr().out == told


def test_a_yanked_release_is_not_locked(
    script: ModuleType, workers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS E12."""
    wheels = tmp_path / "yanked"
    wheels.mkdir()
    for version in ("1.0", "2.0"):
        write_wheel(wheels, "dep", version, {"dep.py": b""})
    with serving(PackageIndex(wheels, yanked={"2.0"})) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.simple)
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
        assert script.main(["--root", str(workers)]) == 0
    assert "dep==1.0" in (workers / "tiny" / "requirements.lock").read_text()


def test_what_a_lock_says_is_read_whole(script: ModuleType) -> None:
    text = "a==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n    # via b\nb==2 ; python_version < '3.12'\n"
    assert script.pins(text) == {"a==1": {"sha256:00", "sha256:11"}, "b==2 ; python_version < '3.12'": set()}
    for lock in (ROOT / "workers").glob("*/requirements.lock"):
        found = script.pins(lock.read_text())
        assert found and all(found.values()), lock


def test_a_worker_that_cannot_be_locked_is_named(
    script: ModuleType, index: str, workers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["--root", str(workers), "--exclude-newer", "2019-01-01"]) == 2
    assert "tiny" in capsys.readouterr().err


def test_an_address_in_a_lock_is_refused(script: ModuleType, index: str, workers: Path) -> None:
    file = workers / "tiny" / "pyproject.toml"
    file.write_text(file.read_text().replace('["dep"]', f'["dep @ {index}/files/dep-1.0-py3-none-any.whl"]'))
    with pytest.raises(script.LockFailed, match="address"):
        script.compile_lock(workers / "tiny", "", "2026-11-22", upgrade=False)


def test_the_default_is_a_week_of_cooling_off(script: ModuleType) -> None:
    assert script._days_ago(7) < script._days_ago(0)
    assert script.COOLING_OFF_DAYS == 7


def test_a_name_that_is_none_is_refused(script: ModuleType, workers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was passed over without a word."""
    with pytest.raises(SystemExit):
        script.main(["--root", str(workers), "tyni"])
    assert "there is no 'tyni'; there are: tiny" in capsys.readouterr().err
