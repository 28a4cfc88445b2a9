"""Where the packages of workers and gateways lie; pytest's conftest adds the same."""

import sys

from support.environments import ROOTS


def add_import_roots() -> None:
    """Each worker's and gateway's folder is an import root of its own."""
    for root in ROOTS:
        for manifest in sorted(root.glob("*/pyproject.toml")):
            if str(manifest.parent) not in sys.path:
                sys.path.append(str(manifest.parent))
