"""Fuzzes for a time: `scripts/fuzz.py --seconds 60 [NAME ...]`."""

import argparse
import sys

from support.fuzz import file_targets, wire_targets
from support.fuzz.engine import keep, run
from support.report import say

TARGETS = {target.name: target for target in (*wire_targets.TARGETS, *file_targets.TARGETS)}


def main() -> int:
    """0 where no input broke a promise; else each that did is kept among the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each of them")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(TARGETS)}")
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - set(TARGETS))
    if unknown:
        parser.error(f"there is no {unknown[0]!r}; there are: {', '.join(TARGETS)}")
    crashes = 0
    for target in [TARGETS[name] for name in asked.names or TARGETS]:
        result = run(target, asked.seconds)
        figures = f"{result.runs:>9,} inputs {result.seconds:>6.1f} s {result.memory_mb:>5.0f} MiB"
        say(f"{target.name:<20} {figures}  {'ok' if result.crash is None else 'BROKEN'}")
        if result.crash is not None:
            crashes += 1
            data, error = result.crash
            say(f"  {type(error).__name__}: {str(error)[:300]}\n  {data[:300]!r}\n  kept as {keep(target, data)}")
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
