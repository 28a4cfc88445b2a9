#!/usr/bin/env python3
"""Feeds whatever reads foreign bytes with foreign bytes. What breaks a promise becomes a seed of the tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bootstrap

PROGRAM = "support.fuzz.run"


def main() -> int:
    """0 where nothing broke."""
    return bootstrap.run_of_tests(PROGRAM, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
