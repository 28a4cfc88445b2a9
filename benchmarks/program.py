"""The benchmarks: every figure that the project promises, beside its limit measured in the same run.

The cases take turns, round by round, so that the machine's moods hit all alike; the table has medians with minimum and
maximum. The figure to quote is the ratio to the limit. Exit code 1 where an answer was wrong, never for a time.
"""

import argparse
import asyncio
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TextIO

from benchmarks.cases import GROUPS, bench, cases, prepare
from benchmarks.facts import Others, facts
from benchmarks.heap import keep_what_reads_take
from benchmarks.measured import FULL, SHORT, Sizes
from benchmarks.record import Record
from benchmarks.subject import BUILD
from benchmarks.table import table

_ROUNDS: Final = 5
_OPEN_FILES: Final = 65536
_BUSY: Final = 0.1
INTERRUPTED: Final = 130
_TERMINATED: Final = 143


async def measure(sizes: Sizes, rounds: int, only: Sequence[str], record: Record) -> None:
    """Fill the record: so many rounds of these groups."""
    with bench(sizes) as running:
        await prepare(running)
        groups = cases(running)
        for number in range(rounds):
            for group in only:
                sides = list(groups[group].items())
                # Who comes first changes: it may find the machine warmer or colder than who follows.
                turn = number % len(sides)
                for side, measured in sides[turn:] + sides[:turn]:
                    say(f"round {number + 1}/{rounds}: {group}, {side}", to=sys.stderr)
                    found = await measured()
                    record.add(number, side, found.values, found.faults)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small sizes, one round: are the answers right?")
    parser.add_argument("--rounds", type=positive, metavar="N", help=f"instead of {_ROUNDS}")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, metavar="NAME", help=", ".join(GROUPS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the record goes, instead of build/benchmarks")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """0 where every answer was right."""
    asked = arguments(argv)
    many_files()
    keep_what_reads_take()
    end_what_was_started()
    sizes = SHORT if asked.short else FULL
    rounds = asked.rounds or (1 if asked.short else _ROUNDS)
    others = Others()
    record = Record(facts(), sizes)
    try:
        asyncio.run(measure(sizes, rounds, asked.only, record))
    except KeyboardInterrupt:
        return INTERRUPTED
    record.facts["machine"]["others_cores"] = others.cores()
    file = asked.json or BUILD / time.strftime("%Y%m%d-%H%M%S.json", time.gmtime())
    record.write(file)
    if asked.short:
        say("short form: its sizes are too small to judge by, it shows that the answers are right")
    for line in (*_headline(record), "", *table(record), f"record: {file}"):
        say(line)
    return 1 if record.bad else 0


def _headline(record: Record) -> list[str]:
    machine, versions = record.facts["machine"], record.facts["versions"]
    return [
        f"{record.facts['when']}, commit {record.facts['commit']}, {len(record.rounds)} rounds",
        f"{machine['processor']}, {machine['cores']} cores; {machine['system']}",
        f"other programs used {machine['others_cores']:.2f} of the cores meanwhile" + _warning(machine),
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"byte code: {record.facts['byte_code']}",
    ]


def _warning(machine: Mapping[str, float]) -> str:
    busy = machine["others_cores"] > _BUSY * machine["cores"]
    return ": these figures are not worth much, only the ratios are worth something" if busy else ""


def many_files() -> None:
    """A thousand connections are as many open files, here and in what is started from here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES if hard == resource.RLIM_INFINITY else hard, hard))


def end_what_was_started() -> None:
    """Also where this program is told to stop: it then leaves in good order."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))


def positive(text: str) -> int:
    """An argument that counts something. Raises: ArgumentTypeError, ValueError."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return number


def say(text: str, to: TextIO | None = None) -> None:
    """One line, at once."""
    print(text, file=to or sys.stdout, flush=True)


if __name__ == "__main__":
    sys.exit(main())
