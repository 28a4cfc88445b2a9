"""Our own code as workers run it."""

import threading
from pathlib import Path

import pytest
from support.stores import write_worker

from waifu_llm.catalog import Manifest
from waifu_llm.environment.seed import Seed, seed_digests


@pytest.fixture
def worker(tmp_path: Path) -> Manifest:
    return write_worker(tmp_path / "workers", "tiny", "", more='abilities = ["chat", "text"]')


def test_it_claims_the_pipes_before_any_other_import_and_postpones_what_it_can(
    worker: Manifest, tmp_path: Path
) -> None:
    main = (Seed(worker).place(tmp_path / "seed") / "__main__.py").read_text()
    statements = [line for line in main.splitlines() if line]
    assert statements[:2] == ["from waifu_worker import stdio", "pipes = stdio.claim()"]
    assert statements[2].startswith("from waifu_worker import late")
    assert statements[3] == "late.postpone(late.IN_A_WORKER)"
    assert statements[4].startswith("from waifu_worker.runtime import run")
    assert statements[5] == "run(pipes, name='tiny', package='waifu_tiny', abilities=('chat', 'text'))"


def test_it_holds_the_worker_side_and_the_provider_and_nothing_of_the_core(worker: Manifest, tmp_path: Path) -> None:
    (worker.package_folder / "__pycache__").mkdir()
    (worker.package_folder / "__pycache__" / "x.pyc").write_bytes(b"")
    (worker.package_folder / "data").mkdir()
    (worker.package_folder / "data" / "table.json").write_bytes(b"{}")
    folder = Seed(worker).place(tmp_path / "seed")
    assert sorted(entry.name for entry in folder.iterdir()) == ["__main__.py", "waifu_tiny", "waifu_worker"]
    assert (folder / "waifu_tiny" / "data" / "table.json").is_file()
    assert not list(folder.rglob("*.pyc"))


def test_the_same_content_is_the_same_folder_and_other_content_another(worker: Manifest, tmp_path: Path) -> None:
    first = Seed(worker)
    assert Seed(worker).digest == first.digest
    (worker.package_folder / "more.py").write_text("x = 1\n")
    assert Seed(worker).digest != first.digest
    assert first.place(tmp_path) == first.place(tmp_path)
    assert not (first.place(tmp_path) / "waifu_tiny" / "more.py").exists(), "it was read before the change"
    assert seed_digests(tmp_path) == [first.digest]


def test_what_is_damaged_is_replaced(worker: Manifest, tmp_path: Path) -> None:
    seed = Seed(worker)
    folder = seed.place(tmp_path)
    (folder / "waifu_tiny" / "__init__.py").unlink()
    assert seed.place(tmp_path) == folder
    assert (folder / "waifu_tiny" / "__init__.py").is_file()
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_several_that_place_the_same_at_once_all_succeed(worker: Manifest, tmp_path: Path) -> None:
    seeds = [Seed(worker) for _ in range(8)]
    together = threading.Barrier(len(seeds))
    placed: list[Path] = []

    def place(seed: Seed) -> None:
        together.wait()
        placed.append(seed.place(tmp_path / "seed"))

    threads = [threading.Thread(target=place, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert placed == [tmp_path / "seed" / seeds[0].digest] * len(seeds)
    assert [entry.name for entry in (tmp_path / "seed").iterdir()] == [seeds[0].digest]


def test_a_place_that_is_no_folder_is_an_error(worker: Manifest, tmp_path: Path) -> None:
    seed = Seed(worker)
    (tmp_path / "seed").write_bytes(b"")
    with pytest.raises(OSError):
        seed.place(tmp_path / "seed")
    assert seed_digests(tmp_path / "seed") == []


def test_a_worker_without_its_package_has_no_seed(worker: Manifest) -> None:
    (worker.package_folder / "__init__.py").unlink()
    with pytest.raises(FileNotFoundError):
        Seed(worker)
