#!/usr/bin/env python3
"""Everything goes wrong at once: does the module hold? Prints what was done and a verdict; makes .venv first."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bootstrap

PROGRAM = "support.chaos.run"


def main() -> int:
    """0 where every promise held, 1 with the seed and what was done where one broke."""
    return bootstrap.run_of_tests(PROGRAM, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
