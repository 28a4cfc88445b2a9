"""A fuzzer that finds nothing may be blind: this one finds what is there, makes it small and keeps it."""

from pathlib import Path

import pytest
from support.fuzz import engine
from support.fuzz.engine import Slow, Target, attempt, keep, run

SECONDS = 20.0


@pytest.fixture
def seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(engine, "SEEDS", tmp_path)
    folder = tmp_path / "picky"
    folder.mkdir()
    (folder / "plain").write_bytes(b"nothing of interest, but long enough to be changed")
    return folder


def picky(data: bytes) -> None:
    """Breaks where both words are in it."""
    assert not (b"{" in data and b"NaN" in data)


@pytest.mark.usefixtures("seeds")
def test_what_breaks_is_found_and_made_small() -> None:
    result = run(Target("picky", picky, (b"{", b"NaN", b"x")), SECONDS)
    assert result.crash is not None
    data, error = result.crash
    assert isinstance(error, AssertionError)
    assert sorted(data) == sorted(b"{NaN")


def test_what_broke_is_a_seed_from_then_on(seeds: Path) -> None:
    target = Target("picky", picky, (b"x",))
    path = keep(target, b"{NaN")
    assert path.parent == seeds
    assert target.seeds[path.name] == b"{NaN"


def test_what_takes_too_long_is_a_crash_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_SLOWEST_S", -1.0)
    with pytest.raises(Slow, match="took"):
        attempt(Target("picky", picky, ()), b"")
