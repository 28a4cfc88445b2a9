#!/usr/bin/env python3
"""Measures how the figures grow and makes docs/performance.md of them; makes .venv first."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import bootstrap

PROGRAM = "benchmarks.growth_program"


def main() -> int:
    """0 where every answer was right, however long it took."""
    return bootstrap.run_program(PROGRAM, sys.argv[1:], bootstrap.ROOT)


if __name__ == "__main__":
    sys.exit(main())
