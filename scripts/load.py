#!/usr/bin/env python3
"""Many clients, requests and streams at once: prints what was answered, how late, and what memory it took."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bootstrap

PROGRAM = "support.load.run"


def main() -> int:
    """0 where everyone was answered."""
    return bootstrap.run_of_tests(PROGRAM, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
