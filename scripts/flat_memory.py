#!/usr/bin/env python3
"""A million chunks, ten thousand requests, a thousand connections: prints what core and worker have in memory."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bootstrap

PROGRAM = "benchmarks.flat_memory"


def main() -> int:
    """0 where every answer was right."""
    return bootstrap.run_program(PROGRAM, sys.argv[1:], bootstrap.ROOT)


if __name__ == "__main__":
    sys.exit(main())
