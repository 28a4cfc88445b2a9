"""How long the gateway takes to list a thousand personalities: the first time, again, and after a restart."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

GATEWAY = Path(__file__).resolve().parent.parent / "gateways" / "lollms"
sys.path.insert(0, str(GATEWAY))

from waifu_lollms.personalities.library import Library  # noqa: E402
from waifu_lollms.personalities.seeding import ORIGINAL_SET  # noqa: E402

COUNT = 1000
AGAIN = "after a restart"


def make(root: Path) -> None:
    """A thousand folders, each with the file and the logo of one of the originals."""
    originals = [(file.read_bytes(), (file.parent / "assets" / "logo.png").read_bytes()) for file in originals_of()]
    for number in range(COUNT):
        config, logo = originals[number % len(originals)]
        folder = root / "english" / f"category {number % 25}" / f"personality {number}"
        (folder / "assets").mkdir(parents=True)
        (folder / "config.yaml").write_bytes(config)
        (folder / "assets" / "logo.png").write_bytes(logo)


def originals_of() -> list[Path]:
    """The files of the original set."""
    return sorted(ORIGINAL_SET.glob("*/*/*/config.yaml"))


def measure(library: Library, what: str) -> None:
    """One look through all of them, by the clock."""
    start = time.perf_counter()
    survey = library.survey()
    seconds = time.perf_counter() - start
    listed = sum(len(there) for named in survey.languages.values() for there in named.values())
    print(f"{what:<28} {seconds:6.3f} s   {listed} personalities, {len(survey.errors)} errors", flush=True)


def main() -> None:
    """Make them, measure, and measure in a process of its own what a restart costs."""
    if len(sys.argv) > 1:
        root = Path(sys.argv[1])
        measure(Library([root], root.parent / "cache"), AGAIN)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "personalities"
        make(root)
        library = Library([root], root.parent / "cache")
        measure(library, "the first time")
        measure(library, "again")
        start = time.perf_counter()
        library.find("english/category 7/personality 7")
        print(f"{'one of them by its path':<28} {time.perf_counter() - start:6.3f} s", flush=True)
        subprocess.run([sys.executable, __file__, str(root)], check=True)


if __name__ == "__main__":
    main()
