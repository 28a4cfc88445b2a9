#!/usr/bin/env python3
"""Compares two records of benchmarks/run.py, figure by figure: `compare.py A B`. Needs nothing but Python."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.comparison import comparison
from benchmarks.record import NotARecord, Record


def main() -> int:
    """0 where both could be read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", metavar="A", type=Path, help="the record before")
    parser.add_argument("second", metavar="B", type=Path, help="the record after")
    asked = parser.parse_args()
    try:
        lines = comparison(Record.read(asked.first), Record.read(asked.second))
    except (NotARecord, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
