"""Measures how the figures grow with connections, streams, workers, modules and prompts, and writes
docs/performance.md with its plots.

The sweeps are run round by round; what is shown are medians. Exit code 1 where an answer was wrong, never for a time.
"""

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.answers import Wanted
from benchmarks.cases import bench, prepare
from benchmarks.children import ROOT, users_environment
from benchmarks.facts import facts
from benchmarks.growth_measure import FULL, SHORT, GrowthSizes, sweep_all
from benchmarks.growth_page import page
from benchmarks.growth_record import GrowthRecord
from benchmarks.measured import SHORT as SHORT_BENCH
from benchmarks.program import INTERRUPTED, end_what_was_started, many_files, positive
from benchmarks.record import Record
from benchmarks.subject import BUILD

ROUNDS: Final = 3
TEMPLATE: Final = ROOT / "benchmarks" / "growth_page.md"
RESULTS: Final = ROOT / "benchmarks" / "results"
GROWTH: Final = RESULTS / "growth.json"
TARGETS: Final = RESULTS / "run.json"
PAGE: Final = ROOT / "docs" / "performance.md"
_OF_MACHINE: Final = frozenset({"processor", "cores", "others_cores"})
IMAGES: Final = ROOT / "docs" / "images"


async def measure(sizes: GrowthSizes, rounds: int, record: GrowthRecord) -> None:
    """Fill the record."""
    with bench(SHORT_BENCH) as running:
        await prepare(running)
        for count in {*(sizes.flood // streams for streams in sizes.streams), sizes.flood // max(sizes.workers)}:
            running.read(Wanted(n=count))  # else the service makes its answers while it is measured
        for number in range(rounds):
            async for sweep in sweep_all(running, sizes, record):
                print(f"round {number + 1}/{rounds}: {sweep}", file=sys.stderr, flush=True)
            record.rounds += 1


def text_of_page(growth: GrowthRecord) -> str:
    """The page; its plots are `draw`'s."""
    return page(TEMPLATE.read_text("utf-8"), growth, Record.read(TARGETS) if TARGETS.exists() else None)


def draw(record: Path, folder: Path) -> None:
    """Draw the plots in an environment that has what they are drawn with: the group `plots`.

    Raises: CalledProcessError, where that cannot be had.
    """
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    uv = Path(sys.executable).with_name("uv")
    packages = [part for requirement in groups["plots"] for part in ("--with", requirement)]
    argv = [uv, "run", "--quiet", "--no-project", "--python", sys.executable, *packages]
    program = ["python", "-m", "benchmarks.growth_plots", record, folder]
    env = users_environment({"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"})
    subprocess.run([str(part) for part in (*argv, *program)], env=env, stdin=subprocess.DEVNULL, check=True)


def machine() -> Mapping[str, Any]:
    """What a reader of the figures must know of the machine, and no more of it."""
    found = facts()
    return {
        "processor": found["machine"]["processor"],
        "cores": os.cpu_count() or 1,
        "system": platform.system(),
        "versions": found["versions"],
    }


def keep(targets: Record) -> None:
    """Put a record of run.py beside the growth's, without what concerns nobody but this machine."""
    machine = {name: value for name, value in targets.facts["machine"].items() if name in _OF_MACHINE}
    targets.facts = {**targets.facts, "machine": machine}
    targets.write(TARGETS)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="growth.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small sizes, one round, no page: are the answers right?")
    parser.add_argument("--rounds", type=positive, metavar="N", help=f"instead of {ROUNDS}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record there, and no page")
    parser.add_argument("--page", action="store_true", help="measure nothing: make page and plots of the last records")
    parser.add_argument(
        "--targets", type=Path, metavar="FILE", help="the record of run.py that the page shows from now on"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """0 where every answer was right."""
    asked = arguments(argv)
    many_files()
    end_what_was_started()
    if asked.targets:
        keep(Record.read(asked.targets))
    if asked.page:
        growth = GrowthRecord.read(GROWTH)
    else:
        sizes = SHORT if asked.short else FULL
        growth = GrowthRecord(machine())
        rounds = asked.rounds or (1 if asked.short else ROUNDS)
        begun = time.monotonic()
        try:
            asyncio.run(measure(sizes, rounds, growth))
        except KeyboardInterrupt:
            return INTERRUPTED
        print(f"{time.monotonic() - begun:.0f} s, bad: {sum(growth.bad.values())} {growth.bad or ''}")
        file = asked.json or (BUILD / "growth.json" if asked.short else GROWTH)
        growth.write(file)
        print(f"record: {file}")
    if asked.page or not (asked.short or asked.json):
        PAGE.write_text(text_of_page(growth), "utf-8")
        print(f"page: {PAGE}")
        draw(GROWTH, IMAGES)
        print(f"plots: {IMAGES}")
    return 1 if growth.bad else 0


if __name__ == "__main__":
    sys.exit(main())
