#!/usr/bin/env python3
"""Runs exactly what CI runs: format, lint, types, workflows, every test, coverage. Makes what it needs first."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bootstrap

DESCRIPTION = """Makes .venv, installs the test tools, then runs exactly what CI runs. Every step runs, also after
one has failed; the exit code is 0 only where all were good. What follows -- goes to pytest."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument("--full", action="store_true", help="also the long runs")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--worker", metavar="NAME", help="only this provider's part")
    only.add_argument("--gateway", metavar="NAME", help="only this gateway's part")
    parser.add_argument("pytest", nargs="*", metavar="-- PYTEST_ARGUMENT", help="run these tests only, no other step")
    return parser.parse_args()


def main() -> int:
    """0 where everything was good."""
    asked = arguments()
    try:
        bootstrap.prepare(dev=True)
    except bootstrap.SetUpFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    import gates  # needs Python 3.11, which `prepare` has made sure of

    return gates.run_all(full=asked.full, worker=asked.worker, gateway=asked.gateway, pytest=asked.pytest)


if __name__ == "__main__":
    sys.exit(main())
